// Products of matrices, for one type of number T, after block.h:
//
//     c = a b        c [M][O], a [M][K], b [K][O]
//
// A tile of c, some rows by OB columns, stays in registers while its sum runs over k: a number of a and two vectors of
// b at a time. So b is needed in panels of OB neighboring columns, [K][OB], and is packed into such where it does not
// lie so already; what is left of the columns is a panel that begins earlier, where it can. K goes in blocks, so that
// the panels of a block stay in the second cache.

#define DEPTH 384  // of k at once
#define PANELS 8   // of b at once
#define FEW 256    // rows of a for which b is read where it lies

// `px` rows of c by `vs` vectors, `add`ed to what is there: rows of a lie `row` apart, its columns `column`. The sum runs
// over `rounds` times K, from one round to the next `a_round` in a and `b_round` in b.
AI void N(dot)(const int px, const int vs, int add, long rounds, long K, const T *restrict a, long row, long column,
               long a_round, const T *restrict b, long b_row, long b_round, T *restrict c, long c_row) {
  V s[PIXELS][2];
  UNROLL for (int p = 0; p < px; p++)
    UNROLL for (int v = 0; v < vs; v++) s[p][v] = add ? LOAD(c + p * c_row + v * VL) : (V){0};
  for (long r = 0; r < rounds; r++, a += a_round, b += b_round) {
    const T *restrict x = a, *restrict w = b;
    ROLLED for (long k = 0; k < K; k++, w += b_row, x += column) {
      V numbers[2];
      UNROLL for (int v = 0; v < vs; v++) numbers[v] = LOAD(w + v * VL);
      UNROLL for (int p = 0; p < px; p++) {
        const T one = x[p * row];
        UNROLL for (int v = 0; v < vs; v++) s[p][v] += one * numbers[v];
      }
    }
  }
  UNROLL for (int p = 0; p < px; p++)
    UNROLL for (int v = 0; v < vs; v++) STORE(c + p * c_row + v * VL) = s[p][v];
}

// The same for as many rows as there are, for panels of one vector or two, and for both ways in which a may lie.
static void N(dots)(int px, int vs, int add, long rounds, long K, const T *a, long row, long column, long a_round,
                    const T *b, long b_row, long b_round, T *c, long c_row) {
  if (column == 1 && vs == 2) switch (px) {
#define TILE(n) case n: N(dot)(n, 2, add, rounds, K, a, row, 1, a_round, b, b_row, b_round, c, c_row); break;
    TILES
#undef TILE
  }
  else if (column == 1) switch (px) {
#define TILE(n) case n: N(dot)(n, 1, add, rounds, K, a, row, 1, a_round, b, b_row, b_round, c, c_row); break;
    TILES
#undef TILE
  }
  else if (vs == 2) switch (px) {
#define TILE(n) case n: N(dot)(n, 2, add, rounds, K, a, 1, column, a_round, b, b_row, b_round, c, c_row); break;
    TILES
#undef TILE
  }
  else switch (px) {
#define TILE(n) case n: N(dot)(n, 1, add, rounds, K, a, 1, column, a_round, b, b_row, b_round, c, c_row); break;
    TILES
#undef TILE
  }
}

// columns of c that do not fill a panel, by way of a tile of their own
static void N(edge)(int add, long columns, int px, long K, const T *a, long row, long column, const T *b, long b_row,
                    T *c, long c_row) {
  T tile[PIXELS * OB];
  if (add)
    for (int p = 0; p < px; p++) memcpy(tile + p * OB, c + p * c_row, columns * sizeof(T));
  N(dots)(px, columns > VL ? 2 : 1, add, 1, K, a, row, column, 0, b, b_row, 0, tile, OB);
  for (int p = 0; p < px; p++) memcpy(c + p * c_row, tile + p * OB, columns * sizeof(T));
}

// Lanes of two vectors in which every second block of `s` lanes comes from the other.
#define FIRST(l, s) ((l) & (s) ? LANES + (l) - (s) : (l))
#define SECOND(l, s) ((l) & (s) ? LANES + (l) : (l) + (s))
#define FOUR(f, s, l) f(l, s), f(l + 1, s), f(l + 2, s), f(l + 3, s)
#if LANES == 16
#define EVERY(f, s) FOUR(f, s, 0), FOUR(f, s, 4), FOUR(f, s, 8), FOUR(f, s, 12)
#elif LANES == 8
#define EVERY(f, s) FOUR(f, s, 0), FOUR(f, s, 4)
#else
#define EVERY(f, s) FOUR(f, s, 0)
#endif
#ifdef __clang__
#define SHUFFLE(a, b, f, s) __builtin_shufflevector(a, b, EVERY(f, s))
#else
#define SHUFFLE(a, b, f, s) __builtin_shuffle(a, b, (VI){EVERY(f, s)})
#endif
#define EXCHANGE(s)                                                                                                   \
  UNROLL for (int i = 0; i < LANES; i++)                                                                              \
    if (!(i & s)) {                                                                                                   \
      const V a = v[i], b = v[i + s];                                                                                 \
      v[i] = SHUFFLE(a, b, FIRST, s), v[i + s] = SHUFFLE(a, b, SECOND, s);                                            \
    }

AI void N(transpose)(V v[LANES]) {
  EXCHANGE(1)
  EXCHANGE(2)
#if LANES > 4
  EXCHANGE(4)
#endif
#if LANES > 8
  EXCHANGE(8)
#endif
}

// a panel [K][OB] of b; what is behind `columns` in a vector is zero
static void N(panel)(const T *restrict b, long row, long column, long K, long columns, T *restrict out) {
  if (columns % VL) memset(out, 0, K * OB * sizeof(T));
  if (column == 1)
    for (long k = 0; k < K; k++) memcpy(out + k * OB, b + k * row, columns * sizeof(T));
  else if (row == 1 && K >= VL && columns >= VL)
    for (long p = 0; p < columns; p += VL)
      for (long i = 0; i < K; i += VL) { // blocks at an end overlap
        const long o = p + VL > columns ? columns - VL : p, k = i + VL > K ? K - VL : i;
        V v[VL];
        UNROLL for (int l = 0; l < VL; l++) v[l] = LOAD(b + k + (o + l) * column);
        N(transpose)(v);
        UNROLL for (int l = 0; l < VL; l++) STORE(out + (k + l) * OB + o) = v[l];
      }
  else
    for (long k = 0; k < K; k += 16)
      for (long o = 0; o < columns; o++)
        for (long i = k; i < (k + 16 < K ? k + 16 : K); i++) out[i * OB + o] = b[i * row + o * column];
}

// where in c the last panel of columns begins: earlier, if `moved`, so that it is full
AI long N(begin)(long o, long columns, int moved) {
  return moved && columns - o < OB ? columns - (columns - o > VL ? OB : VL) : o;
}

// rows m0 to m1 of c (+)= a b for one block of k and some panels of b, which lie `b_panel` apart, or in b (0)
static void N(rows_of_product)(const T *a, long row, long column, const T *b, long b_row, long b_panel, T *c, long O,
                               long m0, long m1, long K, long columns, int add, int moved) {
  const long tiles = (m1 - m0 + PIXELS - 1) / PIXELS, size = (m1 - m0 + tiles - 1) / tiles;
  for (long m = m0; m < m1; m += size) {
    const int px = (int)(m + size < m1 ? size : m1 - m);
    for (long o = 0; o < columns; o += OB) {
      const long from = N(begin)(o, columns, moved);
      const T *panel = b + (b_panel ? o / OB * b_panel : from);
      T *to = c + m * O + from;
      if (moved || o + OB <= columns)
        N(dots)(px, columns - o > VL ? 2 : 1, add, 1, K, a + m * row, row, column, 0, panel, b_row, 0, to, O);
      else N(edge)(add, columns - o, px, K, a + m * row, row, column, panel, b_row, to, O);
    }
  }
}

// c [B][inner][M][O] = a b, rows g0 to g1 of all B·inner·M: matrices of a and b lie `outer` and `inner` numbers apart,
// their rows and columns as said; the rows or the columns of a are neighbors.
void N(matmul)(const T *a, long a_outer, long a_inner, long a_row, long a_column, const T *b, long b_outer, long b_inner,
               long b_row, long b_column, T *c, long g0, long g1, long inner, long M, long K, long O) {
  const long deep = K < DEPTH ? K : DEPTH, panels = (O + OB - 1) / OB < PANELS ? (O + OB - 1) / OB : PANELS;
  const int moved = K <= DEPTH && O >= (O % OB > VL ? OB : VL); // what is written twice must not be added up
  T *packed = N(claim)(deep * panels * OB);
  if (!packed) return;
  for (long g = g0, next; g < g1; g = next) {
    const long e = g / M, m0 = g % M, m1 = g1 - e * M < M ? g1 - e * M : M;
    next = e * M + m1;
    const T *from = a + e / inner * a_outer + e % inner * a_inner, *of = b + e / inner * b_outer + e % inner * b_inner;
    T *to = c + e * M * O;
    if (!K) memset(to + m0 * O, 0, (m1 - m0) * O * sizeof(T));
    for (long o = 0; o < O; o += panels * OB)
      for (long k = 0; k < K; k += DEPTH) {
        const long depth = k + DEPTH < K ? DEPTH : K - k, columns = o + panels * OB < O ? panels * OB : O - o;
        const T *part = of + k * b_row + o * b_column;
        const int lies = b_column == 1 && (moved || columns % OB == 0) && m1 - m0 <= FEW;
        for (long p = 0; p < columns && !lies; p += OB) {
          const long first = N(begin)(p, columns, moved), width = columns - first < OB ? columns - first : OB;
          N(panel)(part + first * b_column, b_row, b_column, depth, width, packed + p * deep);
        }
        N(rows_of_product)(from + k * a_column, a_row, a_column, lies ? part : packed, lies ? b_row : OB,
                           lies ? 0 : deep * OB, to + o, O, m0, m1, depth, columns, k > 0, moved);
      }
  }
  free(packed);
}
