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
// Larger maps are convolved in tiles of 2x2 outputs by Winograd's minimal filtering F(2x2, 3x3) (Lavin & Gray 2016,
// arXiv:1509.09308), by 16 products where the sum over the filter takes 36:
//
//     y = A' [(G w G') . (B' d B)] A      d: 4x4 of x
//
// and its transpose for the gradient of w. Weights are lifted (G w G') when they are packed: [16][O/OB][C][OB]. `taps`
// says which way a function goes: 9 or 16.
//
// Every function works on examples g0 to g1 of the B·n examples of B tasks, writes what belongs to them, and adds
// sums over them to arrays of its own, so that threads need nothing from each other. The first `support` of the n examples
// of a task make its statistics, which normalize all n; so a mean is over these, and a sum behind it over all. C and O are multiples of 32,
// except for the channels of pictures.

typedef T N(V) __attribute__((vector_size(VB), aligned(sizeof(T)), may_alias));
typedef I N(VI) __attribute__((vector_size(VB)));                                // whole numbers as wide as T
typedef unsigned char N(VC) __attribute__((vector_size(VB / sizeof(T)), aligned(1), may_alias)); // as many bytes
#define V N(V)
#define VI N(VI)
#define VC N(VC)
#define VL ((long)(VB / sizeof(T)))
#define OB (2 * VL)
#define LOAD(p) (*(const V *)(p))
#define STORE(p) (*(V *)(p))

#define BYTES(p) __builtin_convertvector(*(const VC *)(p), VI)
#define CHOOSE(mask, a, b) ((V)(((mask) & (VI)(a)) | (~(mask) & (VI)(b))))
#define ONLY(mask, a) ((V)((mask) & (VI)(a)))

// ---------------------------------------------------------------------------------------------- weights

// the filters [9][OB] of one input channel, lifted: out lies `apart` numbers apart for each of the 16
AI void N(lift_filter)(const T *restrict g, T *restrict out, long apart) {
  for (long o = 0; o < OB; o += VL) {
    V t[4][3];
    UNROLL for (int j = 0; j < 3; j++) {
      const V a = LOAD(g + j * OB + o), b = LOAD(g + (3 + j) * OB + o), c = LOAD(g + (6 + j) * OB + o);
      const V even = (a + c) * (T)0.5, odd = b * (T)0.5;
      t[0][j] = a, t[1][j] = even + odd, t[2][j] = even - odd, t[3][j] = c;
    }
    UNROLL for (int i = 0; i < 4; i++) {
      const V even = (t[i][0] + t[i][2]) * (T)0.5, odd = t[i][1] * (T)0.5;
      T *to = out + 4 * i * apart + o;
      STORE(to) = t[i][0], STORE(to + apart) = even + odd, STORE(to + 2 * apart) = even - odd;
      STORE(to + 3 * apart) = t[i][2];
    }
  }
}

// the transpose of lift_filter
AI void N(settle_filter)(const T *restrict in, long apart, T *restrict g) {
  for (long o = 0; o < OB; o += VL) {
    V t[3][4];
    UNROLL for (int j = 0; j < 4; j++) {
      const T *u = in + j * apart + o;
      const V b = LOAD(u + 4 * apart), c = LOAD(u + 8 * apart), even = (b + c) * (T)0.5;
      t[0][j] = LOAD(u) + even, t[1][j] = (b - c) * (T)0.5, t[2][j] = even + LOAD(u + 12 * apart);
    }
    UNROLL for (int i = 0; i < 3; i++) {
      const V even = (t[i][1] + t[i][2]) * (T)0.5;
      T *to = g + 3 * i * OB + o;
      STORE(to) = t[i][0] + even, STORE(to + OB) = (t[i][1] - t[i][2]) * (T)0.5, STORE(to + 2 * OB) = even + t[i][3];
    }
  }
}

// w [O][C][3][3] -> packed for the convolution of x
void N(pack)(const T *restrict w, long taps, long tasks, long O, long C, T *restrict p) {
  T g[9 * OB];
  for (long t = 0; t < tasks; t++, w += 9 * O * C, p += taps * O * C)
  for (long ob = 0; ob < O; ob += OB)
    for (long c = 0; c < C; c++) {
      for (long o = 0; o < OB; o++)
        for (long k = 0; k < 9; k++) g[k * OB + o] = w[((ob + o) * C + c) * 9 + k];
      if (taps == 16) N(lift_filter)(g, p + (ob * C + c * OB), O * C);
      else
        for (long k = 0; k < 9; k++) memcpy(p + ((ob / OB * 9 + k) * C + c) * OB, g + k * OB, OB * sizeof(T));
    }
}

// w [O][C][3][3] -> packed for the convolution of gy that gives gx: transposed and turned by half a turn
void N(pack_turned)(const T *restrict w, long taps, long tasks, long O, long C, T *restrict p) {
  T g[9 * OB];
  for (long t = 0; t < tasks; t++, w += 9 * O * C, p += taps * O * C)
  for (long cb = 0; cb < C; cb += OB)
    for (long o = 0; o < O; o++) {
      for (long c = 0; c < OB; c++)
        for (long k = 0; k < 9; k++) g[(8 - k) * OB + c] = w[(o * C + cb + c) * 9 + k];
      if (taps == 16) N(lift_filter)(g, p + (cb * O + o * OB), O * C);
      else
        for (long k = 0; k < 9; k++) memcpy(p + ((cb / OB * 9 + k) * O + o) * OB, g + k * OB, OB * sizeof(T));
    }
}

// the gradient of packed weights -> that of w [O][C][3][3]
void N(unpack)(const T *restrict p, long taps, long tasks, long O, long C, T *restrict w) {
  T g[9 * OB];
  for (long t = 0; t < tasks; t++, w += 9 * O * C, p += taps * O * C)
  for (long ob = 0; ob < O; ob += OB)
    for (long c = 0; c < C; c++) {
      if (taps == 16) N(settle_filter)(p + (ob * C + c * OB), O * C, g);
      else
        for (long k = 0; k < 9; k++) memcpy(g + k * OB, p + ((ob / OB * 9 + k) * C + c) * OB, OB * sizeof(T));
      for (long o = 0; o < OB; o++)
        for (long k = 0; k < 9; k++) w[((ob + o) * C + c) * 9 + k] = g[k * OB + o];
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

// ---------------------------------------------------------------------------------------------- tiles of 2x2 outputs

// A strip of tiles, `down` rows of `across`, of the framed map [H+2][W+2][C], from row `top` of its outputs.
typedef struct {
  long top, down, across, H, W;
} N(strip);

AI long N(tiles)(N(strip) s) { return s.down * s.across; }

// rows of tiles in a strip: enough tiles for a product, few enough for the second cache
static long N(strip_rows)(long H, long W) {
  long across = (W + 1) / 2, rows = 32 / across, down = (H + 1) / 2;
  return rows < 1 ? 1 : rows < down ? rows : down;
}

// v [16][tiles][C] = B' d B of the strip's tiles; what lies beyond the frame is zero
static void N(lift)(N(strip) s, const T *restrict x, long C, T *restrict v) {
  const long row = (s.W + 2) * C, apart = N(tiles)(s) * C;
  for (long i = 0; i < s.down; i++)
    for (long j = 0; j < s.across; j++, v += C) {
      const long h = s.top + 2 * i, w = 2 * j, high = s.H + 2 - h, wide = s.W + 2 - w;
      const T *restrict d = x + h * row + w * C;
      for (long c = 0; c < C; c += VL) {
        V t[4][4];
        UNROLL for (int b = 0; b < 4; b++) {
          const V d0 = b < wide ? LOAD(d + b * C + c) : (V){0}, d1 = b < wide ? LOAD(d + row + b * C + c) : (V){0};
          const V d2 = b < wide ? LOAD(d + 2 * row + b * C + c) : (V){0};
          const V d3 = b < wide && 3 < high ? LOAD(d + 3 * row + b * C + c) : (V){0};
          t[0][b] = d0 - d2, t[1][b] = d1 + d2, t[2][b] = d2 - d1, t[3][b] = d1 - d3;
        }
        UNROLL for (int a = 0; a < 4; a++) {
          T *to = v + 4 * a * apart + c;
          STORE(to) = t[a][0] - t[a][2], STORE(to + apart) = t[a][1] + t[a][2];
          STORE(to + 2 * apart) = t[a][2] - t[a][1], STORE(to + 3 * apart) = t[a][1] - t[a][3];
        }
      }
    }
}

// y = A' m A of the strip's tiles m [16][tiles][O], into the map y with rows `row` apart
static void N(drop)(N(strip) s, const T *restrict m, long O, T *restrict y, long row) {
  const long apart = N(tiles)(s) * O;
  for (long i = 0; i < s.down; i++)
    for (long j = 0; j < s.across; j++, m += O) {
      const long h = s.top + 2 * i, w = 2 * j;
      const int below = h + 1 < s.H, right = w + 1 < s.W;
      T *restrict to = y + h * row + w * O;
      for (long c = 0; c < O; c += VL) {
        V t[2][4];
        UNROLL for (int b = 0; b < 4; b++) {
          const T *from = m + b * apart + c;
          const V m1 = LOAD(from + 4 * apart), m2 = LOAD(from + 8 * apart);
          t[0][b] = LOAD(from) + m1 + m2, t[1][b] = m1 - m2 - LOAD(from + 12 * apart);
        }
        STORE(to + c) = t[0][0] + t[0][1] + t[0][2];
        if (right) STORE(to + O + c) = t[0][1] - t[0][2] - t[0][3];
        if (below) STORE(to + row + c) = t[1][0] + t[1][1] + t[1][2];
        if (below && right) STORE(to + row + O + c) = t[1][1] - t[1][2] - t[1][3];
      }
    }
}

// m [16][tiles][O] = A gy A' of the strip's tiles of the framed map gy: the transpose of drop
static void N(raise)(N(strip) s, const T *restrict gy, long O, T *restrict m) {
  const long row = (s.W + 2) * O, apart = N(tiles)(s) * O;
  for (long i = 0; i < s.down; i++)
    for (long j = 0; j < s.across; j++, m += O) {
      const T *restrict d = gy + (s.top + 2 * i + 1) * row + (2 * j + 1) * O; // the frame ends what is odd by zeros
      for (long c = 0; c < O; c += VL) {
        const V a = LOAD(d + c), b = LOAD(d + O + c), e = LOAD(d + row + c), f = LOAD(d + row + O + c);
        const V left[4] = {a, a + e, a - e, -e}, right[4] = {b, b + f, b - f, -f};
        UNROLL for (int k = 0; k < 4; k++) {
          T *to = m + 4 * k * apart + c;
          STORE(to) = left[k], STORE(to + apart) = left[k] + right[k];
          STORE(to + 2 * apart) = left[k] - right[k], STORE(to + 3 * apart) = -right[k];
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

AI void N(products_)(const int C, const int sources, long tiles, const T *const v[2], const T *const u[2], T *m, long O) {
  const long groups = (tiles + PIXELS - 1) / PIXELS, size = (tiles + groups - 1) / groups;
  for (long k = 0; k < 16; k++)
    for (long ob = 0; ob < O; ob += OB)
      for (long t = 0; t < tiles; t += size) {
        const long from = (k * tiles + t) * C, by = k * O * C + ob * C;
        const T *const at[2] = {v[0] + from, sources > 1 ? v[1] + from : v[0]};
        const T *const with[2] = {u[0] + by, sources > 1 ? u[1] + by : u[0]};
        T *to = m + (k * tiles + t) * O + ob;
        switch (t + size <= tiles ? size : tiles - t) {
#define TILE(px) case px: N(product)(px, C, sources, at, with, to, O); break;
          TILES
#undef TILE
        }
      }
}

// m [16][tiles][O] = v [16][tiles][C] by lifted weights
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

// gu [16][O/OB][C][OB] += the sum over the strip's tiles of v times m
static void N(lifted_gradient)(long tiles, long C, const T *v, long O, const T *m, T *gu) {
  for (long k = 0; k < 16; k++, v += tiles * C, m += tiles * O)
    for (long ob = 0; ob < O; ob += OB, gu += C * OB) {
      long j = 0;
      for (; j + ROWS <= C; j += ROWS) N(outer_tiles)(ROWS, tiles, C, v + j, O, m + ob, gu + j * OB);
      for (; j + 4 <= C; j += 4) N(outer_tiles)(4, tiles, C, v + j, O, m + ob, gu + j * OB);
    }
}

// room for a strip of so many numbers a tile
static T *N(room)(long H, long W, long each) {
  return aligned_alloc(64, (size_t)(16 * N(strip_rows)(H, W) * ((W + 1) / 2) * each * sizeof(T)));
}

// row h of y for the framed example at x: kept in y, or made anew in `buffer`
static const T *N(row_of_y)(const T *y, const T *x, const T *w, T *buffer, long h, long W, long C, long O) {
  if (y) return y + h * W * O;
  const N(row_t) convolve = N(row_for)(C, 1);
  for (long ob = 0; ob < O; ob += OB, w += 9 * C * OB) {
    const T *const xs[2] = {x + h * (W + 2) * C, 0}, *const ws[2] = {w, 0};
    convolve(C, xs, ws, buffer + ob, O, W);
  }
  return buffer;
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

// y = x0 * w0 (+ x1 * w1): [B n, H, W, O], or with a border of zeros. Weights of tasks lie w_task numbers apart (0:
// one for all). With `shift` [B, O]: adds to `total` [B][2][O] the sums over the support of y - shift and of its square,
// and y may be null for 9 taps.
void N(conv)(const T *x0, const T *w0, const T *x1, const T *w1, long w0_task, long w1_task, T *y, long border,
             const T *shift, double *total, long support, long taps, long n, long g0, long g1, long H, long W, long C,
             long O) {
  const N(row_t) convolve = N(row_for)(C, x1 ? 2 : 1);
  const long row = (W + 2) * C, block = 9 * C * OB, out_row = (W + 2 * border) * O, down = N(strip_rows)(H, W);
  T buffer[y ? 1 : W * O], *v = 0, *m = 0;
  if (taps == 16) v = N(room)(H, W, x1 ? 2 * C : C), m = N(room)(H, W, O);
  for (long g = g0; g < g1; g++) {
    const long t = g / n;
    T *image = y + g * (H + 2 * border) * out_row;
    if (border) {
      memset(image, 0, out_row * sizeof(T));
      memset(image + (H + 1) * out_row, 0, out_row * sizeof(T));
      for (long h = 1; h <= H; h++) {
        memset(image + h * out_row, 0, O * sizeof(T));
        memset(image + (h + 1) * out_row - O, 0, O * sizeof(T));
      }
    }
    T *inner = image + border * (out_row + O);
    for (long h = 0, rows; h < H; h += rows) {
      if (taps == 16) {
        const N(strip) s = {h, 2 * down < H - h ? down : (H - h + 1) / 2, (W + 1) / 2, H, W};
        T *const vs[2] = {v, v + 16 * N(tiles)(s) * C};
        N(lift)(s, x0 + g * (H + 2) * row, C, vs[0]);
        if (x1) N(lift)(s, x1 + g * (H + 2) * row, C, vs[1]);
        const T *const u[2] = {w0 + t * w0_task, x1 ? w1 + t * w1_task : 0};
        N(products)(C, x1 ? 2 : 1, N(tiles)(s), (const T *const *)vs, u, m, O);
        N(drop)(s, m, O, inner, out_row);
        rows = h + 2 * s.down < H ? 2 * s.down : H - h;
      } else {
        T *out = y ? inner + h * out_row : buffer;
        const long at = (g * (H + 2) + h) * row;
        for (long ob = 0, b = 0; ob < O; ob += OB, b += block) {
          const T *const x[2] = {x0 + at, x1 ? x1 + at : 0};
          const T *const w[2] = {w0 + t * w0_task + b, x1 ? w1 + t * w1_task + b : 0};
          convolve(C, x, w, out + ob, O, W);
        }
        rows = 1;
      }
      if (shift && g % n < support) // around one of the task's outputs, so that nothing cancels
        for (long r = h; r < h + rows; r++)
          N(row_sums)(y ? inner + r * out_row : buffer, shift + t * O, W, O, total + 2 * t * O, total + (2 * t + 1) * O);
    }
  }
  free(v);
  free(m);
}

// an output of each task, in the middle of its first example: what its statistics are summed around
void N(middle)(const T *x, const T *w, long w_task, T *shift, long taps, long B, long n, long H, long W, long C, long O) {
  T *v = taps == 16 ? aligned_alloc(64, (size_t)(16 * (C + O) * sizeof(T))) : 0;
  for (long t = 0; t < B; t++) {
    const T *const xs[2] = {x + ((t * n * (H + 2) + H / 2) * (W + 2) + W / 2) * C, 0};
    if (taps == 16) {
      const N(strip) s = {0, 1, 1, H - H / 2, W};
      const T *const vs[2] = {v, 0}, *const u[2] = {w + t * w_task, 0};
      T out[4 * O];
      N(lift)(s, xs[0], C, v);
      N(products)(C, 1, 1, vs, u, v + 16 * C, O);
      N(drop)(s, v + 16 * C, O, out, 2 * O);
      memcpy(shift + t * O, out, O * sizeof(T));
    } else
      for (long ob = 0, b = 0; ob < O; ob += OB, b += 9 * C * OB) {
        const T *const ws[2] = {w + t * w_task + b, 0};
        N(tile)(1, (int)C, 1, xs, ws, (W + 2) * C, shift + t * O + ob, O);
      }
  }
  free(v);
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

// gw of the strip of one example, from framed x and gy: v and m have room for the strip
static void N(strip_weights)(N(strip) s, const T *x, const T *gy, long C, long O, T *v, T *m, T *gw) {
  N(lift)(s, x, C, v);
  N(raise)(s, gy, O, m);
  N(lifted_gradient)(N(tiles)(s), C, v, O, m, gw);
}

// gw (packed, [B], added to) from gy with a border [B n, H+2, W+2, O] and x [B n, H+2, W+2, C]
void N(conv_weights)(const T *x, const T *gy, T *gw, long taps, long n, long g0, long g1, long H, long W, long C, long O) {
  const long row = (W + 2) * C, gy_row = (W + 2) * O, down = N(strip_rows)(H, W);
  const long most = taps == 16 ? 2 * down : N(band_rows)(W, O);
  T *v = taps == 16 ? N(room)(H, W, C) : 0, *m = taps == 16 ? N(room)(H, W, O) : 0;
  for (long g = g0; g < g1; g++) {
    const T *xg = x + g * (H + 2) * row, *from = gy + g * (H + 2) * gy_row;
    T *to = gw + g / n * taps * C * O;
    for (long h = 0; h < H; h += most) {
      const long rows = h + most < H ? most : H - h;
      if (taps == 16) N(strip_weights)((N(strip)){h, (rows + 1) / 2, (W + 1) / 2, H, W}, xg, from, C, O, v, m, to);
      else N(band)(C, xg + h * row, from + (h + 1) * gy_row + O, gy_row, O, rows, W, to);
    }
  }
  free(v);
  free(m);
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
// Where y is null, it is made anew from x and the packed weights, two rows at a time.
void N(pool)(const T *y, const T *x, const T *weights, long w_task, const T *mean, const T *rstd, const T *gamma, const T *beta, long gamma_task,
             T *restrict z, T *restrict xs, unsigned char *restrict index, long n, long g0, long g1, long H, long W,
             long C, long O) {
  const long h2 = H / 2, w2 = W / 2, zrow = (w2 + 2) * O;
  T a[O], b[O], ia[O], ib[O], buffer[y ? 1 : 2 * W * O];
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
    const T *yg = y ? y + g * H * W * O : 0, *xg = x + g * (H + 2) * (W + 2) * C, *wt = weights + t * w_task;
    for (long h = 0; h < h2; h++) {
      const T *top = N(row_of_y)(yg, xg, wt, buffer, 2 * h, W, C, O);
      const T *bottom = N(row_of_y)(yg, xg, wt, buffer + (y ? 0 : W * O), 2 * h + 1, W, C, O);
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
void N(embed)(const T *x, const T *w, long w_task, const T *scale, const T *offset, long task, T *restrict z, long taps,
              long n, long g0, long g1, long H, long W, long C, long O) {
  const long row = (W + 2) * C, h2 = H / 2, w2 = W / 2, zrow = (w2 + 2) * O, down = N(strip_rows)(H, W);
  T *v = taps == 16 ? N(room)(H, W, C) : 0, *m = taps == 16 ? N(room)(H, W, O) : 0;
  T *y = aligned_alloc(64, (size_t)(2 * (taps == 16 ? down : 1) * W * O * sizeof(T)));
  for (long g = g0; g < g1; g++) {
    const T *restrict a = scale + g / n * task, *restrict b = offset + g / n * task, *xg = x + g * (H + 2) * row;
    const T *const wg = w + g / n * w_task;
    T *out = z + g * (h2 + 2) * zrow;
    memset(out, 0, zrow * sizeof(T));
    memset(out + (h2 + 1) * zrow, 0, zrow * sizeof(T));
    for (long h = 0, rows; h < h2; h += rows) {
      rows = taps == 16 ? (h + down < h2 ? down : h2 - h) : 1;
      if (taps == 16) {
        const N(strip) s = {2 * h, rows, (W + 1) / 2, H, W};
        const T *const vs[2] = {v, 0}, *const u[2] = {wg, 0};
        N(lift)(s, xg, C, v);
        N(products)(C, 1, N(tiles)(s), vs, u, m, O);
        N(drop)(s, m, O, y - 2 * h * W * O, W * O);
      } else
        for (long r = 0; r < 2; r++) N(row_of_y)(0, xg, wg, y + r * W * O, 2 * h + r, W, C, O);
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
  free(v);
  free(m);
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
AI void N(gy_row)(const T *restrict from, const T *restrict gz, const unsigned char *restrict index,
                  const T *restrict extra, const T *restrict k, const T *restrict k0, const T *restrict k1, long g,
                  long h, long H, long W, long O, T *restrict out) {
  const long h2 = H / 2, w2 = W / 2;
  for (long w = 0; w < W; w++) {
    const T *restrict p = from + w * O;
    T *restrict o = out + w * O;
    if (h / 2 < h2 && w / 2 < w2) {
      const T *restrict z = gz + ((g * (h2 + 2) + h / 2 + 1) * (w2 + 2) + w / 2 + 1) * O;
      const unsigned char *restrict i = index + ((g * h2 + h / 2) * w2 + w / 2) * O;
      const I me = h % 2 * 2 + w % 2;
      VECTORS STORE(o + c) = LOAD(k0 + c) + LOAD(k1 + c) * LOAD(p + c) +
                             ONLY(BYTES(i + c) == me, LOAD(k + c) * LOAD(z + c));
    } else
      VECTORS STORE(o + c) = LOAD(k0 + c) + LOAD(k1 + c) * LOAD(p + c);
  }
  if (extra) {
    const T *restrict e = extra + (g * H + h) * W * O;
    for (long i = 0; i < W * O; i++) out[i] += e[i];
  }
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

// The whole gradient without keeping gy: adds to gw (packed, [B]), and writes gx with a border unless it is null.
// extra: a further gradient of y, or null. y may be null as in pool. scratch: (H+2)(W+2)O numbers.
void N(block_backward)(const T *x, const T *weights, long w_task, const T *turned, long turned_task, const T *y, const T *gz,
                       const unsigned char *index, const T *extra, const T *mean, const T *rstd, const T *gamma,
                       long gamma_task, const double *total, long parts, T *gw, T *gx, T *scratch, long support, long taps,
                       long B, long n, long g0, long g1, long H, long W, long C, long O) {
  const long row = (W + 2) * C, gy_row = (W + 2) * O;
  const long most = taps == 16 ? 2 * N(strip_rows)(H, W) : N(band_rows)(W, O);
  T k[O], k0[O], k1[O], none[O], buffer[y ? 1 : W * O];
  memset(none, 0, sizeof none);
  T *v = taps == 16 ? N(room)(H, W, C) : 0, *m = taps == 16 ? N(room)(H, W, O) : 0;
  memset(scratch, 0, (H + 2) * gy_row * sizeof(T));
  for (long g = g0; g < g1; g++) {
    const long t = g / n;
    if (g == g0 || g % n == 0)
      N(coefficients)(total + t * 2 * O, parts, B * 2 * O, mean + t * O, rstd + t * O, gamma + t * gamma_task,
                      (double)support * H * W, O, k, k0, k1);
    const int counts = g % n < support;
    for (long h = 0; h < H; h += most) {
      const long rows = h + most < H ? most : H - h;
      // rows that nobody else reads lie in the first cache
      T *to = scratch + (gx || taps == 16 ? h + 1 : 1) * gy_row + O;
      for (long r = 0; r < rows; r++) {
        const T *from = N(row_of_y)(y ? y + g * H * W * O : 0, x + g * (H + 2) * row, weights + t * w_task, buffer,
                                    h + r, W, C, O);
        N(gy_row)(from, gz, index, extra, k, counts ? k0 : none, counts ? k1 : none, g, h + r, H, W, O,
                  to + r * gy_row);
      }
      const T *xg = x + g * (H + 2) * row;
      T *sum = gw + t * taps * C * O;
      if (taps == 16) N(strip_weights)((N(strip)){h, (rows + 1) / 2, (W + 1) / 2, H, W}, xg, scratch, C, O, v, m, sum);
      else N(band)(C, xg + h * row, to, gy_row, O, rows, W, sum);
    }
    if (gx) {
      T *image = gx + g * (H + 2) * row;
      // scratch is one example: as example 0 of one task
      N(conv)(scratch, turned + t * turned_task, 0, 0, 0, 0, image, 1, 0, 0, 0, taps, 1, 0, 1, H, W, O, C);
    }
  }
  free(v);
  free(m);
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
    for (long h = 0; h < H; h++)
      for (long w = 0; w < W; w++) {
        const long at = ((g * H + h) * W + w) * O;
        const T *restrict p = y + at, *restrict d = yd + ((g * (H + 2) + h + 1) * (W + 2) + w + 1) * O;
        T *restrict o = out + at;
        if (h / 2 < h2 && w / 2 < w2) {
          const T *restrict z = gz + ((g * (h2 + 2) + h / 2 + 1) * (w2 + 2) + w / 2 + 1) * O;
          const unsigned char *restrict i = index + ((g * h2 + h / 2) * w2 + w / 2) * O;
          const I me = h % 2 * 2 + w % 2;
          VECTORS STORE(o + c) = LOAD(k0 + c) + LOAD(ky + c) * LOAD(p + c) + LOAD(kd + c) * LOAD(d + c) +
                                 ONLY(BYTES(i + c) == me, LOAD(k + c) * LOAD(z + c));
        } else
          VECTORS STORE(o + c) = LOAD(k0 + c) + LOAD(ky + c) * LOAD(p + c) + LOAD(kd + c) * LOAD(d + c);
      }
  }
}

#undef EACH
#undef VECTORS
#undef ONLY
#undef CHOOSE
#undef BYTES
#undef STORE
#undef LOAD
#undef OB
#undef VL
#undef VC
#undef VI
#undef V
