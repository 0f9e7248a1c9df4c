// One convolutional block of few-shot learning, for one type of number T with vectors of VB bytes:
//
//     y = 3x3 convolution of x        [n, H, W, O]
//     x̂ = (y - mean) · rstd           over all examples and positions of a task
//     z = relu(maxpool2(γ x̂ + β))     [n, H/2, W/2, O]
//
// its gradient, and the gradient of its gradient. Pixels are channels-last. What a convolution reads has a border of
// one zero pixel: [n, H+2, W+2, C], so that it asks no questions. For a fixed row of the filter, the three columns and
// the channels of a pixel lie side by side, 3C numbers, and so do the rows of the packed weights:
//
//     packed weights   [O/OB][3][3 C][OB]      OB = two vectors of output channels
//
// Maps of at least LEAST_TILED rows and columns are convolved in tiles of 4x4 outputs by Winograd's minimal filtering
// F(4x4, 3x3) (Lavin & Gray 2016, arXiv:1509.09308), by 36 products where the sum over the filter takes 144:
//
//     y = A' [(G w G') . (B' d B)] A      d: 6x6 of x
//
// and its transpose for the gradient of w. Packed weights are then lifted (G w G'), [36][O/OB][C][OB]. A kernel packs
// when it comes to a task, so that they lie in the caches when they are read.
//
// Every function works on examples g0 to g1 of the B·n examples of B tasks, writes what belongs to them, and adds
// sums over them to arrays of its own, so that threads need nothing from each other. One that finds no memory for its
// work is `starved` and does nothing. The first `support` of the n
// examples of a task make its statistics, which normalize all n; so a mean is over these, and a sum behind it over all.
// C and O are multiples of 32, except for the channels of pictures.

typedef T N(V) __attribute__((vector_size(VB), aligned(sizeof(T)), may_alias));
typedef I N(VI) __attribute__((vector_size(VB)));                                // whole numbers as wide as T
typedef unsigned char N(VC) __attribute__((vector_size(VB / sizeof(T)), aligned(1), may_alias)); // as many bytes
#define V N(V)
#define VI N(VI)
#define VC N(VC)
#define VL ((long)(VB / sizeof(T)))
#define OB (2 * VL)
// Winograd's points are 0, ±P, ±Q and infinity, exact in binary. In float an output is off by 6e-7 of their root mean
// square (by ±1 and ±2, which are usual, 1.3e-6; by direct sums 3e-7).
#define P ((T)0.625)
#define Q ((T)1.5)
#define PP (P * P)
#define QQ (Q * Q)
#define NP ((T)0.5 / (PP * (PP - QQ)))
#define NQ ((T)0.5 / (QQ * (QQ - PP)))
#define LOAD(p) (*(const V *)(p))
#define STORE(p) (*(V *)(p))

#define BYTES(p) __builtin_convertvector(*(const VC *)(p), VI)
#define CHOOSE(mask, a, b) ((V)(((mask) & (VI)(a)) | (~(mask) & (VI)(b))))
#define ONLY(mask, a) ((V)((mask) & (VI)(a)))

// ---------------------------------------------------------------------------------------------- weights

// G g along one axis
AI void N(lifted_filter)(const V g[3], V u[6]) {
  const V a = (g[0] + PP * g[2]) * NP, oda = g[1] * (P * NP), b = (g[0] + QQ * g[2]) * NQ, odb = g[1] * (Q * NQ);
  u[0] = g[0] / (PP * QQ), u[1] = a + oda, u[2] = a - oda, u[3] = b + odb, u[4] = b - odb, u[5] = g[2];
}

// its transpose
AI void N(settled_filter)(const V u[6], V g[3]) {
  const V a = (u[1] + u[2]) * NP, b = (u[3] + u[4]) * NQ;
  g[0] = u[0] / (PP * QQ) + a + b;
  g[1] = (u[1] - u[2]) * (P * NP) + (u[3] - u[4]) * (Q * NQ);
  g[2] = PP * a + QQ * b + u[5];
}

// the filters [9][OB] of one input channel, lifted: out lies `apart` numbers apart for each of the 36
AI void N(lift_filter)(const T *restrict g, T *restrict out, long apart) {
  for (long o = 0; o < OB; o += VL) {
    V t[3][6];
    UNROLL for (int j = 0; j < 3; j++) {
      const V column[3] = {LOAD(g + j * OB + o), LOAD(g + (3 + j) * OB + o), LOAD(g + (6 + j) * OB + o)};
      N(lifted_filter)(column, t[j]);
    }
    UNROLL for (int i = 0; i < 6; i++) {
      const V row[3] = {t[0][i], t[1][i], t[2][i]};
      V u[6];
      N(lifted_filter)(row, u);
      UNROLL for (int j = 0; j < 6; j++) STORE(out + (6 * i + j) * apart + o) = u[j];
    }
  }
}

// the transpose of lift_filter
AI void N(settle_filter)(const T *restrict in, long apart, T *restrict g) {
  for (long o = 0; o < OB; o += VL) {
    V t[6][3];
    UNROLL for (int j = 0; j < 6; j++) {
      V column[6];
      UNROLL for (int i = 0; i < 6; i++) column[i] = LOAD(in + (6 * i + j) * apart + o);
      N(settled_filter)(column, t[j]);
    }
    UNROLL for (int i = 0; i < 3; i++) {
      const V row[6] = {t[0][i], t[1][i], t[2][i], t[3][i], t[4][i], t[5][i]};
      V f[3];
      N(settled_filter)(row, f);
      UNROLL for (int j = 0; j < 3; j++) STORE(g + (3 * i + j) * OB + o) = f[j];
    }
  }
}

// Planes of lifted numbers do not lie a power of two apart: all would share one set of the first cache.
AI long N(plane)(long numbers) { return numbers + VL; }

static int N(tiled)(long H, long W, long C, long O) {
  return H >= LEAST_TILED && W >= LEAST_TILED && C % 32 == 0 && O % 32 == 0;
}

// room for so many numbers; null where there is none, and then `starved`
static T *N(claim)(long numbers) {
  T *p = aligned_alloc(64, ((size_t)numbers * sizeof(T) + 63) / 64 * 64);
  if (!p) starved = 1;
  return p;
}

// numbers of the packed weights of a task
AI long N(weights)(int tiled, long C, long O) { return tiled ? 36 * N(plane)(O * C) : 9 * O * C; }

static T *N(packed)(int tiled, long C, long O) { return N(claim)(N(weights)(tiled, C, O)); }

static void N(clear)(int tiled, long C, long O, T *p) { memset(p, 0, N(weights)(tiled, C, O) * sizeof(T)); }

// the filters g [9][OB] of input channel c and outputs from ob on, into packed weights
AI void N(pack_filter)(const T *restrict g, int tiled, long ob, long c, long C, long O, T *restrict p) {
  if (tiled) N(lift_filter)(g, p + ob * C + c * OB, N(plane)(O * C));
  else
    for (long k = 0; k < 9; k++) memcpy(p + ((ob / OB * 9 + k) * C + c) * OB, g + k * OB, OB * sizeof(T));
}

// w [O][C][3][3] of a task -> packed for the convolution of x
static void N(pack)(const T *restrict w, int tiled, long C, long O, T *restrict p) {
  T g[8 * 9 * OB];
  for (long ob = 0; ob < O; ob += OB)
    for (long c = 0; c < C; c += 8) {
      const long channels = c + 8 < C ? 8 : C - c;
      for (long o = 0; o < OB; o++) {
        const T *restrict from = w + ((ob + o) * C + c) * 9;
        for (long i = 0; i < 9 * channels; i++) g[i * OB + o] = from[i];
      }
      for (long i = 0; i < channels; i++) N(pack_filter)(g + i * 9 * OB, tiled, ob, c + i, C, O, p);
    }
}

// w [C][O][3][3] of a task -> packed for the convolution of gy that gives gx: transposed and turned by half a turn
static void N(pack_turned)(const T *restrict w, int tiled, long C, long O, T *restrict p) {
  T g[9 * OB];
  for (long ob = 0; ob < O; ob += OB)
    for (long c = 0; c < C; c++) {
      const T *restrict from = w + (c * O + ob) * 9;
      for (long k = 0; k < 9; k++)
        for (long o = 0; o < OB; o++) g[(8 - k) * OB + o] = from[o * 9 + k];
      N(pack_filter)(g, tiled, ob, c, C, O, p);
    }
}

// adds the gradient of packed weights of a task to that of w [O][C][3][3]
static void N(unpack)(const T *restrict p, int tiled, long C, long O, T *restrict w) {
  T g[8 * 9 * OB];
  for (long ob = 0; ob < O; ob += OB)
    for (long c = 0; c < C; c += 8) {
      const long channels = c + 8 < C ? 8 : C - c;
      for (long i = 0; i < channels; i++)
        if (tiled) N(settle_filter)(p + ob * C + (c + i) * OB, N(plane)(O * C), g + i * 9 * OB);
        else
          for (long k = 0; k < 9; k++)
            memcpy(g + (i * 9 + k) * OB, p + ((ob / OB * 9 + k) * C + c + i) * OB, OB * sizeof(T));
      for (long o = 0; o < OB; o++) {
        T *restrict to = w + ((ob + o) * C + c) * 9;
        for (long i = 0; i < 9 * channels; i++) to[i] += g[i * OB + o];
      }
    }
}

// ---------------------------------------------------------------------------------------------- convolution

// `px` neighbouring pixels of a row, OB output channels: all sums stay in registers.
// x: the first pixel's window of each of `sources` inputs, rows `row` numbers apart; y: its output, pixels O apart.
AI void N(tile)(const int px, const int C, const int sources, const T *const x[2], const T *const w[2], long row,
                T *restrict y, long O) {
  V a[PIXELS][2];
  UNROLL for (int p = 0; p < px; p++) a[p][0] = a[p][1] = (V){0};
  for (int s = 0; s < sources; s++) {
    const T *restrict q = w[s];
    for (int i = 0; i < 3; i++) {
      const T *restrict r = x[s] + i * row;
      ROLLED for (int j = 0; j < 3 * C; j++, q += OB) {
        V w0 = LOAD(q), w1 = LOAD(q + VL);
        UNROLL for (int p = 0; p < px; p++) {
          T b = r[p * C + j];
          a[p][0] += b * w0;
          a[p][1] += b * w1;
        }
      }
    }
  }
  UNROLL for (int p = 0; p < px; p++) {
    STORE(y + p * O) = a[p][0];
    STORE(y + p * O + VL) = a[p][1];
  }
}

// a row of W pixels in tiles as equal as can be
AI void N(row_)(const int C, const int sources, const T *const x[2], const T *const w[2], T *y, long O, long W) {
  long tiles = (W + PIXELS - 1) / PIXELS, size = (W + tiles - 1) / tiles;
  for (long c = 0; c < W; c += size) {
    const T *const at[2] = {x[0] + c * C, sources > 1 ? x[1] + c * C : x[0]};
    T *out = y + c * O;
    switch (c + size <= W ? size : W - c) {
#define TILE(px) case px: N(tile)(px, C, sources, at, w, (W + 2) * C, out, O); break;
      TILES
#undef TILE
    }
  }
}

// the same for the usual numbers of channels, which are constants to the compiler, and for any
#define ROW(name, c, s)                                                                                               \
  static void N(name)(long C, const T *const x[2], const T *const w[2], T *y, long O, long W) {                       \
    (void)C;                                                                                                          \
    N(row_)((int)c, s, x, w, y, O, W);                                                                                \
  }
ROW(row_1, 1, 1)
ROW(row_3, 3, 1)
ROW(row_32, 32, 1)
ROW(row_64, 64, 1)
ROW(row_any, C, 1)
ROW(rows_32, 32, 2)
ROW(rows_64, 64, 2)
ROW(rows_any, C, 2)
#undef ROW

typedef void (*N(row_t))(long, const T *const *, const T *const *, T *, long, long);

static N(row_t) N(row_for)(long C, int sources) {
  if (sources > 1) return C == 32 ? N(rows_32) : C == 64 ? N(rows_64) : N(rows_any);
  return C == 32 ? N(row_32) : C == 64 ? N(row_64) : C == 1 ? N(row_1) : C == 3 ? N(row_3) : N(row_any);
}

// ---------------------------------------------------------------------------------------------- tiles of 4x4 outputs

// A strip of tiles, `down` rows of `across`, of the framed map [H+2][W+2][C], from row `top` of its outputs; or all the
// tiles of several small maps.
typedef struct {
  long maps, top, down, across, H, W;
} N(strip);

AI long N(tiles)(N(strip) s) { return s.maps * s.down * s.across; }

// rows of tiles in a strip: enough tiles for a product, few enough for the second cache
static long N(strip_rows)(long H, long W) {
  long across = (W + 3) / 4, rows = STRIP / across, down = (H + 3) / 4;
  return rows < 1 ? 1 : rows < down ? rows : down;
}

// examples whose maps make a strip together: of `left`, and of the n of a task from g on
static long N(strip_maps)(int tiled, long H, long W, long left, long n, long g) {
  const long maps = tiled ? STRIP / (((H + 3) / 4) * ((W + 3) / 4)) : 1, same = n - g % n < left ? n - g % n : left;
  return maps < 1 ? 1 : maps < same ? maps : same;
}

// B' d along one axis
AI void N(lifted)(const V d[6], V t[6]) {
  const V a = d[4] - QQ * d[2], oda = P * (d[3] - QQ * d[1]), b = d[4] - PP * d[2], odb = Q * (d[3] - PP * d[1]);
  t[0] = d[4] - (PP + QQ) * d[2] + PP * QQ * d[0];
  t[1] = a + oda, t[2] = a - oda, t[3] = b + odb, t[4] = b - odb;
  t[5] = d[5] - (PP + QQ) * d[3] + PP * QQ * d[1];
}

// A' m along one axis
AI void N(dropped)(const V m[6], V y[4]) {
  const V a = m[1] + m[2], oda = P * (m[1] - m[2]), b = m[3] + m[4], odb = Q * (m[3] - m[4]);
  y[0] = m[0] + a + b, y[1] = oda + odb, y[2] = PP * a + QQ * b, y[3] = PP * oda + QQ * odb + m[5];
}

// A y along one axis
AI void N(raised)(const V y[4], V m[6]) {
  const V a = y[0] + PP * y[2], oda = P * (y[1] + PP * y[3]), b = y[0] + QQ * y[2], odb = Q * (y[1] + QQ * y[3]);
  m[0] = y[0], m[1] = a + oda, m[2] = a - oda, m[3] = b + odb, m[4] = b - odb, m[5] = y[3];
}

// `side` x `side` pixels at d, of which `high` x `wide` are there; the rest is zero: a copy, where some are missing
AI const T *N(whole)(const T *d, long *row, long side, long high, long wide, long C, T *copy) {
  if (high >= side && wide >= side) return d;
  memset(copy, 0, side * side * C * sizeof(T));
  for (long i = 0; i < (high < side ? high : side); i++)
    memcpy(copy + i * side * C, d + i * *row, (wide < side ? wide : side) * C * sizeof(T));
  *row = side * C;
  return copy;
}

// v [36][tiles][C] = B' d B of the strip's tiles; what lies beyond the frame is zero
static void N(lift)(N(strip) s, const T *restrict x, long C, T *restrict v) {
  const long apart = N(plane)(N(tiles)(s) * C);
  T copy[36 * C];
  for (long e = 0; e < s.maps * s.down; e++)
    for (long j = 0; j < s.across; j++, v += C) {
      const long h = s.top + e % s.down * 4, w = 4 * j;
      long row = (s.W + 2) * C;
      const T *restrict d = x + (e / s.down * (s.H + 2) + h) * row + w * C;
      d = N(whole)(d, &row, 6, s.H + 2 - h, s.W + 2 - w, C, copy);
      for (long c = 0; c < C; c += VL) {
        V t[6][6];
        UNROLL for (int b = 0; b < 6; b++) {
          V column[6];
          UNROLL for (int a = 0; a < 6; a++) column[a] = LOAD(d + a * row + b * C + c);
          N(lifted)(column, t[b]);
        }
        UNROLL for (int a = 0; a < 6; a++) {
          const V across[6] = {t[0][a], t[1][a], t[2][a], t[3][a], t[4][a], t[5][a]};
          V out[6];
          N(lifted)(across, out);
          UNROLL for (int b = 0; b < 6; b++) STORE(v + (6 * a + b) * apart + c) = out[b];
        }
      }
    }
}

// y = A' m A of the strip's tiles m [36][tiles][O], into the map y with rows `row` and examples `map` apart
static void N(drop)(N(strip) s, const T *restrict m, long O, T *restrict y, long row, long map) {
  const long apart = N(plane)(N(tiles)(s) * O);
  for (long e = 0; e < s.maps * s.down; e++)
    for (long j = 0; j < s.across; j++, m += O) {
      const long h = s.top + e % s.down * 4, w = 4 * j, high = s.H - h, wide = s.W - w;
      T *restrict to = y + e / s.down * map + h * row + w * O;
      for (long c = 0; c < O; c += VL) {
        V t[6][4];
        UNROLL for (int b = 0; b < 6; b++) {
          V column[6];
          UNROLL for (int a = 0; a < 6; a++) column[a] = LOAD(m + (6 * a + b) * apart + c);
          N(dropped)(column, t[b]);
        }
        UNROLL for (int a = 0; a < 4; a++) {
          const V across[6] = {t[0][a], t[1][a], t[2][a], t[3][a], t[4][a], t[5][a]};
          V out[4];
          N(dropped)(across, out);
          UNROLL for (int b = 0; b < 4; b++)
            if (a < high && b < wide) STORE(to + a * row + b * O + c) = out[b];
        }
      }
    }
}

// m [36][tiles][O] = A gy A' of the strip's tiles of the framed map gy: the transpose of drop
static void N(raise)(N(strip) s, const T *restrict gy, long O, T *restrict m) {
  const long apart = N(plane)(N(tiles)(s) * O);
  T copy[16 * O];
  for (long e = 0; e < s.maps * s.down; e++)
    for (long j = 0; j < s.across; j++, m += O) {
      const long h = s.top + e % s.down * 4, w = 4 * j;
      long row = (s.W + 2) * O;
      const T *restrict d = gy + (e / s.down * (s.H + 2) + h + 1) * row + (w + 1) * O;
      d = N(whole)(d, &row, 4, s.H - h, s.W - w, O, copy);
      for (long c = 0; c < O; c += VL) {
        V t[4][6];
        UNROLL for (int b = 0; b < 4; b++) {
          V column[4];
          UNROLL for (int a = 0; a < 4; a++) column[a] = LOAD(d + a * row + b * O + c);
          N(raised)(column, t[b]);
        }
        UNROLL for (int a = 0; a < 6; a++) {
          const V across[4] = {t[0][a], t[1][a], t[2][a], t[3][a]};
          V out[6];
          N(raised)(across, out);
          UNROLL for (int b = 0; b < 6; b++) STORE(m + (6 * a + b) * apart + c) = out[b];
        }
      }
    }
}

// m [px][O] = v0 u0 (+ v1 u1): v [px][C], u [C][OB]
AI void N(product)(const int px, const int C, const int sources, const T *const v[2], const T *const u[2],
                   T *restrict m, long O) {
  V a[PIXELS][2];
  UNROLL for (int p = 0; p < px; p++) a[p][0] = a[p][1] = (V){0};
  for (int s = 0; s < sources; s++) {
    const T *restrict q = u[s], *restrict r = v[s];
    ROLLED for (int j = 0; j < C; j++, q += OB) {
      V w0 = LOAD(q), w1 = LOAD(q + VL);
      UNROLL for (int p = 0; p < px; p++) {
        T b = r[p * C + j];
        a[p][0] += b * w0;
        a[p][1] += b * w1;
      }
    }
  }
  UNROLL for (int p = 0; p < px; p++) {
    STORE(m + p * O) = a[p][0];
    STORE(m + p * O + VL) = a[p][1];
  }
}

AI void N(products_)(const int C, const int sources, long tiles, const T *const v[2], const T *const u[2], T *m,
                     long O) {
  const long groups = (tiles + PIXELS - 1) / PIXELS, size = (tiles + groups - 1) / groups;
  for (long k = 0; k < 36; k++)
    for (long ob = 0; ob < O; ob += OB)
      for (long t = 0; t < tiles; t += size) {
        const long from = k * N(plane)(tiles * C) + t * C, by = k * N(plane)(O * C) + ob * C;
        const T *const at[2] = {v[0] + from, sources > 1 ? v[1] + from : v[0]};
        const T *const with[2] = {u[0] + by, sources > 1 ? u[1] + by : u[0]};
        T *to = m + k * N(plane)(tiles * O) + t * O + ob;
        switch (t + size <= tiles ? size : tiles - t) {
#define TILE(px) case px: N(product)(px, C, sources, at, with, to, O); break;
          TILES
#undef TILE
        }
      }
}

// m [36][tiles][O] = v [36][tiles][C] by lifted weights
static void N(products)(long C, int sources, long tiles, const T *const v[2], const T *const u[2], T *m, long O) {
  if (C == 32 && sources == 1) N(products_)(32, 1, tiles, v, u, m, O);
  else if (C == 64 && sources == 1) N(products_)(64, 1, tiles, v, u, m, O);
  else N(products_)((int)C, sources, tiles, v, u, m, O);
}

// gu += v m': `js` channels of v [tiles][C] by OB of m [tiles][O], over the tiles
AI void N(outer_tiles)(const int js, long tiles, long C, const T *restrict v, long O, const T *restrict m,
                       T *restrict gu) {
  V a[ROWS][2];
  UNROLL for (int j = 0; j < js; j++) a[j][0] = a[j][1] = (V){0};
  ROLLED for (long t = 0; t < tiles; t++, v += C, m += O) {
    V g0 = LOAD(m), g1 = LOAD(m + VL);
    UNROLL for (int j = 0; j < js; j++) {
      T b = v[j];
      a[j][0] += b * g0;
      a[j][1] += b * g1;
    }
  }
  UNROLL for (int j = 0; j < js; j++) {
    STORE(gu + j * OB) += a[j][0];
    STORE(gu + j * OB + VL) += a[j][1];
  }
}

// gu [36][O/OB][C][OB] += the sum over the strip's tiles of v times m
static void N(lifted_gradient)(long tiles, long C, const T *v, long O, const T *m, T *gu) {
  for (long k = 0; k < 36; k++, v += N(plane)(tiles * C), m += N(plane)(tiles * O), gu += N(plane)(O * C))
    for (long ob = 0; ob < O; ob += OB) {
      long j = 0; // C is a multiple of 32, ROWS of 6: 8 left go by fours, not as 6 and 2
      for (; C - j >= ROWS && C - j != 8; j += ROWS)
        N(outer_tiles)(ROWS, tiles, C, v + j, O, m + ob, gu + ob * C + j * OB);
      for (; j < C; j += 4) N(outer_tiles)(4, tiles, C, v + j, O, m + ob, gu + ob * C + j * OB);
    }
}

// room for so many lifted strips of so many channels
static T *N(room)(int tiled, long strips, long H, long W, long channels) {
  if (!tiled) return 0;
  const long tiles = N(strip_rows)(H, W) * ((W + 3) / 4);
  return N(claim)(strips * 36 * N(plane)((tiles < STRIP ? STRIP : tiles) * channels));
}

// adds to s and q the sums over a row of y of y - m and of its square
static void N(row_sums)(const T *restrict y, const T *m, long W, long O, double *s, double *q) {
  for (long c = 0; c < O; c += VL) {
    V a = {0}, b = {0};
    for (long i = 0; i < W; i++) {
      V d = LOAD(y + i * O + c) - LOAD(m + c);
      a += d;
      b += d * d;
    }
    for (long l = 0; l < VL; l++) {
      s[c + l] += a[l];
      q[c + l] += b[l];
    }
  }
}

// y = x0 * u0 (+ x1 * u1) of one example, or of several in a strip, by packed weights: rows of y lie `row` apart,
// examples `map`. Sums over y - shift and over its square are added to s and q [O] for the first `counts` of them.
// v, m: room.
static void N(convolve)(long maps, const T *const x[2], const T *const u[2], int tiled, T *y, long row, long map,
                        long counts, const T *shift, double *s, double *q, T *v, T *m, long H, long W, long C, long O) {
  const int sources = x[1] ? 2 : 1;
  const N(row_t) convolve = N(row_for)(C, sources);
  const long down = N(strip_rows)(H, W);
  for (long h = 0, rows = 1; h < H; h += rows) {
    T *out = y + h * row;
    if (tiled) {
      const N(strip) strip = {maps, h, 4 * down < H - h ? down : (H - h + 3) / 4, (W + 3) / 4, H, W};
      T *const vs[2] = {v, v + 36 * N(plane)(N(tiles)(strip) * C)};
      for (int i = 0; i < sources; i++) N(lift)(strip, x[i], C, vs[i]);
      N(products)(C, sources, N(tiles)(strip), (const T *const *)vs, u, m, O);
      N(drop)(strip, m, O, y, row, map);
      rows = h + 4 * strip.down < H ? 4 * strip.down : H - h;
    } else
      for (long ob = 0; ob < O; ob += OB) {
        const long at = h * (W + 2) * C, by = 9 * C * ob;
        const T *const from[2] = {x[0] + at, x[1] ? x[1] + at : 0}, *const with[2] = {u[0] + by, x[1] ? u[1] + by : 0};
        convolve(C, from, with, out + ob, O, W);
      }
    for (long e = 0; e < counts; e++)
      for (long r = 0; r < rows; r++) N(row_sums)(out + e * map + r * row, shift, W, O, s, q);
  }
}

// zeros around the framed map at y
static void N(frame)(T *y, long H, long W, long O) {
  const long row = (W + 2) * O;
  memset(y, 0, row * sizeof(T));
  memset(y + (H + 1) * row, 0, row * sizeof(T));
  for (long h = 1; h <= H; h++) {
    memset(y + h * row, 0, O * sizeof(T));
    memset(y + (h + 1) * row - O, 0, O * sizeof(T));
  }
}

// y = x0 * w0 (+ x1 * w1): [B n, H, W, O], or with a border of zeros. Weights [O][C][3][3] of tasks lie w_task numbers
// apart (0: one for all); those to be turned are [C][O][3][3]. With `shift` [B, O]: adds to `total` [B][2][O] the sums
// over the support of y - shift and of its square, around one of the task's outputs, so that nothing cancels.
void N(conv)(const T *x0, const T *w0, const T *x1, const T *w1, long w0_task, long w1_task, long turned, T *y,
             long border, const T *shift, double *total, long support, long n, long g0, long g1, long H, long W, long C,
             long O) {
  const int tiled = N(tiled)(H, W, C, O);
  const long row = (W + 2 * border) * O, map = (H + 2 * border) * row, example = (H + 2) * (W + 2) * C;
  T *v = N(room)(tiled, x1 ? 2 : 1, H, W, C), *m = N(room)(tiled, 1, H, W, O);
  T *const u[2] = {N(packed)(tiled, C, O), x1 ? N(packed)(tiled, C, O) : 0};
  for (long g = g0, maps; g < g1 && !starved; g += maps) {
    const long t = g / n;
    if (g == g0 || (g % n == 0 && (w0_task || w1_task))) {
      (turned ? N(pack_turned) : N(pack))(w0 + t * w0_task, tiled, C, O, u[0]);
      if (x1) (turned ? N(pack_turned) : N(pack))(w1 + t * w1_task, tiled, C, O, u[1]);
    }
    maps = N(strip_maps)(tiled, H, W, g1 - g, n, g);
    T *inner = y + g * map + border * (row + O);
    for (long e = 0; e < maps && border; e++) N(frame)(y + (g + e) * map, H, W, O);
    const T *const x[2] = {x0 + g * example, x1 ? x1 + g * example : 0};
    const long left = shift && g % n < support ? support - g % n : 0, counts = left < maps ? left : maps;
    N(convolve)(maps, x, (const T *const *)u, tiled, inner, row, map, counts, counts ? shift + t * O : 0,
                counts ? total + 2 * t * O : 0, counts ? total + (2 * t + 1) * O : 0, v, m, H, W, C, O);
  }
  free(u[0]), free(u[1]);
  free(v), free(m);
}

// an output of each task, in the middle of its first example: what its statistics are summed around
void N(middle)(const T *x, const T *w, long w_task, T *shift, long B, long n, long H, long W, long C, long O) {
  const long most = (9 * C + VL - 1) / VL * VL;
  T patch[most], filter[most]; // [C][3][3]
  memset(patch, 0, sizeof patch);
  memset(filter, 0, sizeof filter);
  for (long t = 0; t < B; t++) {
    const T *from = x + ((t * n * (H + 2) + H / 2) * (W + 2) + W / 2) * C;
    for (long c = 0; c < C; c++)
      for (long k = 0; k < 9; k++) patch[c * 9 + k] = from[(k / 3 * (W + 2) + k % 3) * C + c];
    for (long o = 0; o < O; o++) {
      memcpy(filter, w + t * w_task + o * C * 9, 9 * C * sizeof(T));
      V sum = {0};
      for (long i = 0; i < most; i += VL) sum += LOAD(patch + i) * LOAD(filter + i);
      T one = 0;
      for (long l = 0; l < VL; l++) one += sum[l];
      shift[t * O + o] = one;
    }
  }
}

// ---------------------------------------------------------------------------------------------- weight gradient

// `js` rows of the packed gradient, one row i of the filter: sums over `rows` rows of W pixels
AI void N(outer)(const int js, const int C, const T *restrict x, long row, const T *restrict gy, long gy_row, long O,
                 long rows, long W, T *restrict gw) {
  V a[ROWS][2];
  UNROLL for (int j = 0; j < js; j++) a[j][0] = a[j][1] = (V){0};
  for (long h = 0; h < rows; h++) {
    const T *restrict r = x + h * row, *restrict g = gy + h * gy_row;
    for (long p = 0; p < W; p++, r += C, g += O) {
      V g0 = LOAD(g), g1 = LOAD(g + VL);
      UNROLL for (int j = 0; j < js; j++) {
        T b = r[j];
        a[j][0] += b * g0;
        a[j][1] += b * g1;
      }
    }
  }
  UNROLL for (int j = 0; j < js; j++) {
    STORE(gw + j * OB) += a[j][0];
    STORE(gw + j * OB + VL) += a[j][1];
  }
}

AI void N(band_)(const int C, const T *x, const T *gy, long gy_row, long O, long rows, long W, T *gw) {
  const long row = (W + 2) * C;
  for (long ob = 0; ob < O; ob += OB)
    for (int i = 0; i < 3; i++) {
      const T *r = x + i * row, *g = gy + ob;
      int j = 0;
      for (; j + ROWS <= 3 * C; j += ROWS, gw += ROWS * OB) N(outer)(ROWS, C, r + j, row, g, gy_row, O, rows, W, gw);
      for (; j + 9 <= 3 * C && ROWS > 9; j += 9, gw += 9 * OB) N(outer)(9, C, r + j, row, g, gy_row, O, rows, W, gw);
      for (; j < 3 * C; j += 3, gw += 3 * OB) N(outer)(3, C, r + j, row, g, gy_row, O, rows, W, gw);
    }
}

static void N(band)(long C, const T *x, const T *gy, long gy_row, long O, long rows, long W, T *gw) {
  if (C == 32) N(band_)(32, x, gy, gy_row, O, rows, W, gw);
  else if (C == 64) N(band_)(64, x, gy, gy_row, O, rows, W, gw);
  else if (C == 1) N(band_)(1, x, gy, gy_row, O, rows, W, gw);
  else if (C == 3) N(band_)(3, x, gy, gy_row, O, rows, W, gw);
  else N(band_)((int)C, x, gy, gy_row, O, rows, W, gw);
}

static long N(band_rows)(long W, long O) { // rows of gy that stay in the first cache
  long rows = 16384 / (W * O * (long)sizeof(T));
  return rows < 1 ? 1 : rows;
}

// gw of a strip, from framed x and gy: v and m have room for the strip
static void N(strip_weights)(N(strip) s, const T *x, const T *gy, long C, long O, T *v, T *m, T *gw) {
  N(lift)(s, x, C, v);
  N(raise)(s, gy, O, m);
  N(lifted_gradient)(N(tiles)(s), C, v, O, m, gw);
}

// gw [B][O][C][3][3], added to, from gy with a border [B n, H+2, W+2, O] and x [B n, H+2, W+2, C]
void N(conv_weights)(const T *x, const T *gy, T *gw, long n, long g0, long g1, long H, long W, long C, long O) {
  const int tiled = N(tiled)(H, W, C, O);
  const long row = (W + 2) * C, gy_row = (W + 2) * O;
  const long most = tiled ? 4 * N(strip_rows)(H, W) : N(band_rows)(W, O);
  T *v = N(room)(tiled, 1, H, W, C), *m = N(room)(tiled, 1, H, W, O), *sum = N(packed)(tiled, C, O);
  for (long g = g0, maps; g < g1 && !starved; g += maps) {
    const T *xg = x + g * (H + 2) * row, *from = gy + g * (H + 2) * gy_row;
    if (g == g0 || g % n == 0) N(clear)(tiled, C, O, sum);
    maps = N(strip_maps)(tiled, H, W, g1 - g, n, g);
    for (long h = 0; h < H; h += most) {
      const long rows = h + most < H ? most : H - h;
      if (tiled) N(strip_weights)((N(strip)){maps, h, (rows + 3) / 4, (W + 3) / 4, H, W}, xg, from, C, O, v, m, sum);
      else N(band)(C, xg + h * row, from + (h + 1) * gy_row + O, gy_row, O, rows, W, sum);
    }
    if (g + maps == g1 || (g + maps) % n == 0) N(unpack)(sum, tiled, C, O, gw + g / n * 9 * O * C);
  }
  free(sum);
  free(v), free(m);
}

// ---------------------------------------------------------------------------------------------- normalize, pool

#define EACH for (long c = 0; c < O; c++)
#define VECTORS for (long c = 0; c < O; c += VL)

// total [parts][B][2][O] around shift [B][O] -> mean, variance and rstd [B][O] of `count` numbers
void N(statistics)(const double *total, long parts, const T *shift, T eps, long count, long B, long O, T *mean,
                   T *variance, T *rstd) {
  for (long t = 0; t < B; t++) EACH {
    double s = 0, q = 0;
    for (long p = 0; p < parts; p++) {
      s += total[((p * B + t) * 2) * O + c];
      q += total[((p * B + t) * 2 + 1) * O + c];
    }
    double m = s / count, v = q / count - m * m;
    v = v < 0 ? 0 : v; // NaN stays
    mean[t * O + c] = shift[t * O + c] + m;
    variance[t * O + c] = v;
    rstd[t * O + c] = 1 / __builtin_sqrt(v + eps);
  }
}

// z with a border [B n, H/2+2, W/2+2, O]; of each pooled value its x̂ and which of the four it was (4: relu cut it).
void N(pool)(const T *y, const T *mean, const T *rstd, const T *gamma, const T *beta, long gamma_task, T *restrict z,
             T *restrict xs, unsigned char *restrict index, long n, long g0, long g1, long H, long W, long O) {
  const long h2 = H / 2, w2 = W / 2, zrow = (w2 + 2) * O;
  T a[O], b[O], ia[O], ib[O];
  for (long g = g0; g < g1; g++) {
    const long t = g / n;
    if (g == g0 || g % n == 0) EACH {
      ia[c] = rstd[t * O + c];
      ib[c] = -mean[t * O + c] * ia[c];
      a[c] = gamma[t * gamma_task + c] * ia[c];
      b[c] = beta[t * gamma_task + c] + gamma[t * gamma_task + c] * ib[c];
    }
    T *out = z + g * (h2 + 2) * zrow;
    memset(out, 0, zrow * sizeof(T));
    memset(out + (h2 + 1) * zrow, 0, zrow * sizeof(T));
    for (long h = 0; h < h2; h++) {
      const T *top = y + (g * H + 2 * h) * W * O, *bottom = top + W * O;
      T *restrict to = out + (h + 1) * zrow;
      EACH to[c] = to[zrow - O + c] = 0;
      for (long w = 0; w < w2; w++) {
        const T *restrict p0 = top + 2 * w * O, *restrict p1 = p0 + O;
        const T *restrict p2 = bottom + 2 * w * O, *restrict p3 = p2 + O;
        T *restrict o = to + (w + 1) * O, *restrict xo = xs + ((g * h2 + h) * w2 + w) * O;
        unsigned char *restrict ko = index + ((g * h2 + h) * w2 + w) * O;
        VECTORS {
          const V scale = LOAD(a + c), offset = LOAD(b + c);
          V v = LOAD(p0 + c), m = scale * v + offset;
          VI k = {0};
          const T *const others[3] = {p1, p2, p3};
          UNROLL for (int i = 0; i < 3; i++) {
            const V other = LOAD(others[i] + c), u = scale * other + offset;
            const VI better = (VI)(u > m) | (VI)(u != u); // NaN wins, as in PyTorch
            v = CHOOSE(better, other, v);
            m = CHOOSE(better, u, m);
            k = (better & (i + 1)) | (~better & k);
          }
          const VI cut = (VI)(m <= 0);
          STORE(o + c) = ONLY(~cut, m);
          STORE(xo + c) = LOAD(ia + c) * v + LOAD(ib + c);
          *(VC *)(ko + c) = __builtin_convertvector((cut & 4) | (~cut & k), VC);
        }
      }
    }
  }
}

// z = relu(maxpool2(scale · (x * w) + offset)) with a border [B n, H/2+2, W/2+2, O], for statistics known beforehand:
// y is never stored
void N(embed)(const T *x, const T *w, long w_task, const T *scale, const T *offset, long task, T *restrict z, long n,
              long g0, long g1, long H, long W, long C, long O) {
  const long row = (W + 2) * C, h2 = H / 2, w2 = W / 2, zrow = (w2 + 2) * O, down = N(strip_rows)(H, W);
  const int tiled = N(tiled)(H, W, C, O);
  T *v = N(room)(tiled, 1, H, W, C), *m = N(room)(tiled, 1, H, W, O), *u = N(packed)(tiled, C, O);
  T *y = N(claim)((tiled ? 4 * down : 2) * W * O);
  for (long g = g0; g < g1 && !starved; g++) {
    const T *restrict a = scale + g / n * task, *restrict b = offset + g / n * task, *xg = x + g * (H + 2) * row;
    if (g == g0 || (g % n == 0 && w_task)) N(pack)(w + g / n * w_task, tiled, C, O, u);
    T *out = z + g * (h2 + 2) * zrow;
    memset(out, 0, zrow * sizeof(T));
    memset(out + (h2 + 1) * zrow, 0, zrow * sizeof(T));
    for (long h = 0, rows; h < h2; h += rows) {
      rows = tiled ? (h + 2 * down < h2 ? 2 * down : h2 - h) : 1;
      if (tiled) {
        const N(strip) s = {1, 2 * h, (rows + 1) / 2, (W + 3) / 4, H, W};
        const T *const vs[2] = {v, 0}, *const us[2] = {u, 0};
        N(lift)(s, xg, C, v);
        N(products)(C, 1, N(tiles)(s), vs, us, m, O);
        N(drop)(s, m, O, y - 2 * h * W * O, W * O, 0);
      } else
        for (long r = 0; r < 2; r++)
          for (long ob = 0; ob < O; ob += OB) {
            const T *const from[2] = {xg + (2 * h + r) * row, 0}, *const with[2] = {u + 9 * C * ob, 0};
            N(row_for)(C, 1)(C, from, with, y + r * W * O + ob, O, W);
          }
      for (long r = 0; r < rows; r++) {
        T *restrict to = out + (h + r + 1) * zrow;
        EACH to[c] = to[zrow - O + c] = 0;
        for (long i = 0; i < w2; i++) {
          const T *restrict p = y + (2 * r * W + 2 * i) * O;
          const T *const others[3] = {p + O, p + W * O, p + (W + 1) * O};
          VECTORS {
            const V k = LOAD(a + c), k0 = LOAD(b + c);
            V best = k * LOAD(p + c) + k0;
            UNROLL for (int q = 0; q < 3; q++) {
              const V u = k * LOAD(others[q] + c) + k0;
              best = CHOOSE((VI)(u > best) | (VI)(u != u), u, best); // NaN wins, as in PyTorch
            }
            STORE(to + (i + 1) * O + c) = ONLY(~(VI)(best <= 0), best);
          }
        }
      }
    }
  }
  free(u);
  free(v), free(m);
  free(y);
}

// adds to total [B][2][O] the sums of gz and of gz·xs over what relu let through
void N(pool_sums)(const T *restrict gz, const T *restrict xs, const unsigned char *restrict index, double *total,
                  long n, long g0, long g1, long h2, long w2, long O) {
  T s[O], q[O];
  for (long g = g0; g < g1; g++) {
    EACH s[c] = q[c] = 0;
    for (long h = 0; h < h2; h++)
      for (long w = 0; w < w2; w++) {
        const T *restrict p = gz + ((g * (h2 + 2) + h + 1) * (w2 + 2) + w + 1) * O;
        const long o = ((g * h2 + h) * w2 + w) * O;
        VECTORS {
          const V d = ONLY(BYTES(index + o + c) < 4, LOAD(p + c));
          STORE(s + c) += d;
          STORE(q + c) += d * LOAD(xs + o + c);
        }
      }
    double *out = total + g / n * 2 * O;
    EACH {
      out[c] += s[c];
      out[O + c] += q[c];
    }
  }
}

// coefficients of gy = k0 + k1·y + k·gz (where chosen), for one task
AI void N(coefficients)(const double *total, long parts, long stride, const T *mean, const T *rstd, const T *gamma,
                        double count, long O, T *k, T *k0, T *k1) {
  EACH {
    double sb = 0, sg = 0;
    for (long p = 0; p < parts; p++) {
      sb += total[p * stride + c];
      sg += total[p * stride + O + c];
    }
    double s = (double)rstd[c] * gamma[c], slope = -s * sg / count * rstd[c];
    k[c] = s;
    k1[c] = slope;
    k0[c] = -s * sb / count - slope * mean[c];
  }
}

// row h of gy of example g from that row of y: k0 + k1·y + k·gz where it was chosen (+ extra)
AI void N(gy_row_)(const T *restrict from, const T *restrict gz, const unsigned char *restrict index,
                   const T *restrict extra, const T *restrict k, const T *restrict k0, const T *restrict k1, long g,
                   long h, long H, long W, const long O, T *restrict out) {
  const long h2 = H / 2, w2 = W / 2, pooled = h / 2 < h2 ? w2 : 0;
  const T *restrict z = gz + ((g * (h2 + 2) + h / 2 + 1) * (w2 + 2) + 1) * O;
  const unsigned char *restrict i = index + (g * h2 + h / 2) * w2 * O;
  const I left = h % 2 * 2;
  for (long w = 0; w < pooled; w++, z += O, i += O, from += 2 * O, out += 2 * O)
    VECTORS {
      const VI at = BYTES(i + c);
      const V d = LOAD(k + c) * LOAD(z + c), slope = LOAD(k1 + c), base = LOAD(k0 + c);
      STORE(out + c) = base + slope * LOAD(from + c) + ONLY(at == left, d);
      STORE(out + O + c) = base + slope * LOAD(from + O + c) + ONLY(at == left + 1, d);
    }
  for (long w = 2 * pooled; w < W; w++, from += O, out += O)
    VECTORS STORE(out + c) = LOAD(k0 + c) + LOAD(k1 + c) * LOAD(from + c);
  if (extra) {
    const T *restrict e = extra + (g * H + h) * W * O;
    out -= W * O;
    for (long n = 0; n < W * O; n += VL) STORE(out + n) += LOAD(e + n);
  }
}

static void N(gy_row)(const T *from, const T *gz, const unsigned char *index, const T *extra, const T *k, const T *k0,
                      const T *k1, long g, long h, long H, long W, long O, T *out) {
  if (O == 32) N(gy_row_)(from, gz, index, extra, k, k0, k1, g, h, H, W, 32, out);
  else if (O == 64) N(gy_row_)(from, gz, index, extra, k, k0, k1, g, h, H, W, 64, out);
  else N(gy_row_)(from, gz, index, extra, k, k0, k1, g, h, H, W, O, out);
}

// gy with a border [B n, H+2, W+2, O]
void N(unpool)(const T *y, const T *gz, const unsigned char *index, const T *mean, const T *rstd, const T *gamma,
               long gamma_task, const double *total, long parts, T *gy, long support, long B, long n, long g0, long g1,
               long H, long W, long O) {
  const long row = (W + 2) * O;
  T k[O], k0[O], k1[O], none[O];
  memset(none, 0, sizeof none);
  for (long g = g0; g < g1; g++) {
    const long t = g / n;
    if (g == g0 || g % n == 0)
      N(coefficients)(total + t * 2 * O, parts, B * 2 * O, mean + t * O, rstd + t * O, gamma + t * gamma_task,
                      (double)support * H * W, O, k, k0, k1);
    const int counts = g % n < support;
    T *image = gy + g * (H + 2) * row;
    memset(image, 0, row * sizeof(T));
    memset(image + (H + 1) * row, 0, row * sizeof(T));
    for (long h = 0; h < H; h++) {
      T *to = image + (h + 1) * row;
      EACH to[c] = to[row - O + c] = 0;
      N(gy_row)(y + (g * H + h) * W * O, gz, index, 0, k, counts ? k0 : none, counts ? k1 : none, g, h, H, W, O,
                to + O);
    }
  }
}

// The whole gradient without keeping gy: adds to gw [B][O][C][3][3], and writes gx with a border unless it is null.
// extra: a further gradient of y, or null.
void N(block_backward)(const T *x, const T *w, long w_task, const T *y, const T *gz, const unsigned char *index,
                       const T *extra, const T *mean, const T *rstd, const T *gamma, long gamma_task,
                       const double *total, long parts, T *gw, T *gx, long support, long B, long n, long g0, long g1,
                       long H, long W, long C, long O) {
  const int tiled = N(tiled)(H, W, C, O);
  const long row = (W + 2) * C, gy_row = (W + 2) * O, map = (H + 2) * row, gy_map = (H + 2) * gy_row;
  const long most = tiled ? 4 * N(strip_rows)(H, W) : N(band_rows)(W, O);
  T k[O], k0[O], k1[O], none[O];
  memset(none, 0, sizeof none);
  T *v = N(room)(tiled, 1, H, W, C > O ? C : O), *m = N(room)(tiled, 1, H, W, C > O ? C : O);
  T *turned = gx ? N(packed)(tiled, O, C) : 0, *sum = N(packed)(tiled, C, O);
  T *gy = calloc((size_t)(N(strip_maps)(tiled, H, W, g1 - g0, n, 0) * gy_map), sizeof(T)); // framed
  if (!gy) starved = 1;
  for (long g = g0, maps; g < g1 && !starved; g += maps) {
    const long t = g / n;
    if (g == g0 || g % n == 0) {
      N(coefficients)(total + t * 2 * O, parts, B * 2 * O, mean + t * O, rstd + t * O, gamma + t * gamma_task,
                      (double)support * H * W, O, k, k0, k1);
      N(clear)(tiled, C, O, sum);
    }
    if (gx && (g == g0 || (g % n == 0 && w_task))) N(pack_turned)(w + t * w_task, tiled, O, C, turned);
    maps = N(strip_maps)(tiled, H, W, g1 - g, n, g);
    const T *xg = x + g * map;
    for (long h = 0; h < H; h += most) {
      const long rows = h + most < H ? most : H - h;
      // rows that nobody else reads lie in the first cache
      T *to = gy + (gx || tiled ? h + 1 : 1) * gy_row + O;
      for (long e = g; e < g + maps; e++)
        for (long r = 0; r < rows; r++) {
          const int counts = e % n < support;
          const T *from = y + (e * H + h + r) * W * O;
          N(gy_row)(from, gz, index, extra, k, counts ? k0 : none, counts ? k1 : none, e, h + r, H, W, O,
                    to + (e - g) * gy_map + r * gy_row);
        }
      if (tiled) N(strip_weights)((N(strip)){maps, h, (rows + 3) / 4, (W + 3) / 4, H, W}, xg, gy, C, O, v, m, sum);
      else N(band)(C, xg + h * row, to, gy_row, O, rows, W, sum);
    }
    if (gx) {
      const T *const from[2] = {gy, 0}, *const with[2] = {turned, 0};
      for (long e = g; e < g + maps; e++) N(frame)(gx + e * map, H, W, C);
      N(convolve)(maps, from, with, tiled, gx + g * map + row + C, row, map, 0, 0, 0, 0, v, m, H, W, O, C);
    }
    if (g + maps == g1 || (g + maps) % n == 0) N(unpack)(sum, tiled, C, O, gw + t * 9 * O * C);
  }
  free(turned), free(sum), free(gy);
  free(v), free(m);
}

// ---------------------------------------------------------------------------------------------- second order
// The gradient of <yd, gy> + <γd, gγ> + <βd, gβ>: yd [B n, H+2, W+2, O] is a direction in y. By symmetry its
// derivative in gz is the derivative of z along the direction:
//     x̂d = rstd (yd - m1 - x̂ m2)     m1 = mean(yd)     m2 = mean(x̂ yd)     zd = γd x̂ + γ x̂d + βd

// adds to total [B][2][O] the sums over the support of yd and of yd (y - mean)
void N(direction_sums)(const T *restrict y, const T *restrict yd, const T *mean, double *total, long support, long n,
                       long g0, long g1, long H, long W, long O) {
  T s[O], q[O];
  for (long g = g0; g < g1; g++) {
    if (g % n >= support) continue;
    const T *restrict m = mean + g / n * O;
    double *out = total + g / n * 2 * O;
    for (long h = 0; h < H; h++) {
      EACH s[c] = q[c] = 0;
      for (long w = 0; w < W; w++) {
        const T *restrict d = yd + ((g * (H + 2) + h + 1) * (W + 2) + w + 1) * O;
        const T *restrict p = y + ((g * H + h) * W + w) * O;
        VECTORS {
          STORE(s + c) += LOAD(d + c);
          STORE(q + c) += LOAD(d + c) * (LOAD(p + c) - LOAD(m + c));
        }
      }
      EACH {
        out[c] += s[c];
        out[O + c] += q[c];
      }
    }
  }
}

// zd with a border, and adds to total [B][O] the sums of gz·x̂d. m1, m2 [B][O] as above.
void N(direction_pool)(const T *restrict yd, const T *restrict gz, const T *m1, const T *m2, const T *rstd,
                       const T *gamma, const T *gamma_d, const T *beta_d, long gamma_task, const T *restrict xs,
                       const unsigned char *restrict index, T *restrict zd, double *total, long n, long g0, long g1,
                       long H, long W, long O) {
  const long h2 = H / 2, w2 = W / 2, zrow = (w2 + 2) * O, row = (W + 2) * O;
  T sum[O];
  for (long g = g0; g < g1; g++) {
    const long t = g / n;
    const T *restrict a = m1 + t * O, *restrict b = m2 + t * O, *restrict r = rstd + t * O;
    const T *restrict ga = gamma + t * gamma_task, *restrict gd = gamma_d + t * O, *restrict bd = beta_d + t * O;
    T *out = zd + g * (h2 + 2) * zrow;
    memset(out, 0, zrow * sizeof(T));
    memset(out + (h2 + 1) * zrow, 0, zrow * sizeof(T));
    EACH sum[c] = 0;
    for (long h = 0; h < h2; h++) {
      T *restrict to = out + (h + 1) * zrow;
      EACH to[c] = to[zrow - O + c] = 0;
      for (long w = 0; w < w2; w++) {
        const T *restrict p0 = yd + ((g * (H + 2) + 2 * h + 1) * (W + 2) + 2 * w + 1) * O, *restrict p1 = p0 + O;
        const T *restrict p2 = p0 + row, *restrict p3 = p2 + O;
        const T *restrict z = gz + ((g * (h2 + 2) + h + 1) * (w2 + 2) + w + 1) * O;
        const long o = ((g * h2 + h) * w2 + w) * O;
        T *restrict into = to + (w + 1) * O;
        VECTORS {
          const VI k = BYTES(index + o + c), live = k < 4;
          V d = CHOOSE(k == 1, LOAD(p1 + c), LOAD(p0 + c));
          d = CHOOSE(k == 2, LOAD(p2 + c), d);
          d = CHOOSE(k == 3, LOAD(p3 + c), d);
          const V x = LOAD(xs + o + c), xd = LOAD(r + c) * (d - LOAD(a + c) - x * LOAD(b + c));
          STORE(into + c) = ONLY(live, LOAD(gd + c) * x + LOAD(ga + c) * xd + LOAD(bd + c));
          STORE(sum + c) += ONLY(live, LOAD(z + c) * xd);
        }
      }
    }
    EACH total[t * O + c] += sum[c];
  }
}

// The derivative in y [B n, H, W, O]:
//     sd (gu - mean(gu) - x̂ mean(gu x̂)) - s (x̂d mean(gu x̂) + x̂ mean(gu x̂d))
// with s = γ rstd, sd = γd rstd - γ rstd² m2, gu the gradient of the pooled values; gb, gg: sums of gu and gu·x̂;
// gd: the sum of gu·x̂d. All but k·gu is affine in y and yd, and through the statistics: the support's alone.
void N(direction_unpool)(const T *restrict y, const T *restrict yd, const T *restrict gz,
                         const unsigned char *restrict index, const T *mean, const T *rstd, const T *gamma,
                         const T *gamma_d, long gamma_task, const T *m1, const T *m2, const T *gg, const T *gb,
                         const T *gd, T *restrict out, long support, long n, long g0, long g1, long H, long W,
                         long O) {
  const long h2 = H / 2, w2 = W / 2;
  const double count = (double)support * H * W;
  T k[O], k0[O], ky[O], kd[O];
  for (long g = g0; g < g1; g++) {
    const long t = g / n;
    if (g == g0 || g % n == 0) EACH {
      const long i = t * O + c;
      double r = rstd[i], ga = gamma[t * gamma_task + c], s = ga * r, sd = gamma_d[i] * r - ga * r * r * m2[i];
      double mb = gb[i] / count, mg = gg[i] / count, md = gd[i] / count;
      double x = -sd * mg - s * md + s * mg * r * m2[i], one = -sd * mb + s * mg * r * m1[i];
      k[c] = sd;
      kd[c] = -s * mg * r;
      ky[c] = x * r;
      k0[c] = one - x * r * mean[i];
    }
    if (g % n == support || (g == g0 && g % n > support)) EACH kd[c] = ky[c] = k0[c] = 0;
    for (long h = 0; h < H; h++) {
      const long pooled = h / 2 < h2 ? w2 : 0;
      const T *restrict p = y + (g * H + h) * W * O, *restrict d = yd + ((g * (H + 2) + h + 1) * (W + 2) + 1) * O;
      const T *restrict z = gz + ((g * (h2 + 2) + h / 2 + 1) * (w2 + 2) + 1) * O;
      const unsigned char *restrict i = index + (g * h2 + h / 2) * w2 * O;
      T *restrict o = out + (g * H + h) * W * O;
      const I left = h % 2 * 2;
      for (long w = 0; w < pooled; w++, z += O, i += O, p += 2 * O, d += 2 * O, o += 2 * O)
        VECTORS {
          const VI at = BYTES(i + c);
          const V chosen = LOAD(k + c) * LOAD(z + c), a = LOAD(ky + c), b = LOAD(kd + c), base = LOAD(k0 + c);
          STORE(o + c) = base + a * LOAD(p + c) + b * LOAD(d + c) + ONLY(at == left, chosen);
          STORE(o + O + c) = base + a * LOAD(p + O + c) + b * LOAD(d + O + c) + ONLY(at == left + 1, chosen);
        }
      for (long w = 2 * pooled; w < W; w++, p += O, d += O, o += O)
        VECTORS STORE(o + c) = LOAD(k0 + c) + LOAD(ky + c) * LOAD(p + c) + LOAD(kd + c) * LOAD(d + c);
    }
  }
}
