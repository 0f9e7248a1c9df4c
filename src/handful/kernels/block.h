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
// Every function works on examples g0 to g1 of the B·n examples of B tasks, writes what belongs to them, and adds
// sums over them to arrays of its own, so that threads need nothing from each other. C and O are multiples of 32,
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

// w [O][C][3][3] -> packed for the convolution of x
void N(pack)(const T *restrict w, long O, long C, T *restrict p) {
  for (long ob = 0; ob < O; ob += OB, p += 9 * C * OB)
    for (long c = 0; c < C; c++)
      for (long k = 0; k < 9; k++)
        for (long o = 0; o < OB; o++) p[(k * C + c) * OB + o] = w[((ob + o) * C + c) * 9 + k];
}

// w [O][C][3][3] -> packed for the convolution of gy that gives gx: transposed and turned by half a turn
void N(pack_turned)(const T *restrict w, long O, long C, T *restrict p) {
  for (long cb = 0; cb < C; cb += OB, p += 9 * O * OB)
    for (long o = 0; o < O; o++)
      for (long c = 0; c < OB; c++)
        for (long k = 0; k < 9; k++) p[((8 - k) * O + o) * OB + c] = w[(o * C + cb + c) * 9 + k];
}

// packed -> w [O][C][3][3]
void N(unpack)(const T *restrict p, long O, long C, T *restrict w) {
  for (long ob = 0; ob < O; ob += OB, p += 9 * C * OB)
    for (long o = 0; o < OB; o++)
      for (long c = 0; c < C; c++)
        for (long k = 0; k < 9; k++) w[((ob + o) * C + c) * 9 + k] = p[(k * C + c) * OB + o];
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

// y = x0 * w0 (+ x1 * w1): [B n, H, W, O], or with a border of zeros. Weights of tasks lie w_task numbers apart (0:
// one for all). With `shift` [B, O]: adds to `total` [B][2][O] the sums of y - shift and of its square, and y may be
// null.
void N(conv)(const T *x0, const T *w0, const T *x1, const T *w1, long w0_task, long w1_task, T *y, long border,
             const T *shift, double *total, long n, long g0, long g1, long H, long W, long C, long O) {
  const N(row_t) convolve = N(row_for)(C, x1 ? 2 : 1);
  const long row = (W + 2) * C, block = 9 * C * OB, out_row = (W + 2 * border) * O;
  T buffer[y ? 1 : W * O];
  for (long g = g0; g < g1; g++) {
    const long t = g / n;
    T *image = y + g * (H + 2 * border) * out_row;
    if (border) {
      memset(image, 0, out_row * sizeof(T));
      memset(image + (H + 1) * out_row, 0, out_row * sizeof(T));
    }
    for (long h = 0; h < H; h++) {
      T *out = y ? image + (h + border) * out_row + border * O : buffer;
      if (border) {
        memset(out - O, 0, O * sizeof(T));
        memset(out + W * O, 0, O * sizeof(T));
      }
      const long at = (g * (H + 2) + h) * row;
      for (long ob = 0, b = 0; ob < O; ob += OB, b += block) {
        const T *const x[2] = {x0 + at, x1 ? x1 + at : 0};
        const T *const w[2] = {w0 + t * w0_task + b, x1 ? w1 + t * w1_task + b : 0};
        convolve(C, x, w, out + ob, O, W);
      }
      if (shift) { // around one of the task's outputs, so that nothing cancels
        const T *m = shift + t * O;
        double *s = total + 2 * t * O, *q = s + O;
        for (long c = 0; c < O; c += VL) {
          V a = {0}, b = {0};
          for (long i = 0; i < W; i++) {
            V d = LOAD(out + i * O + c) - LOAD(m + c);
            a += d;
            b += d * d;
          }
          for (long l = 0; l < VL; l++) {
            s[c + l] += a[l];
            q[c + l] += b[l];
          }
        }
      }
    }
  }
}

// an output of each task, in the middle of its first example: what its statistics are summed around
void N(middle)(const T *x, const T *w, long w_task, T *shift, long B, long n, long H, long W, long C, long O) {
  for (long t = 0; t < B; t++)
    for (long ob = 0, b = 0; ob < O; ob += OB, b += 9 * C * OB) {
      const T *const xs[2] = {x + ((t * n * (H + 2) + H / 2) * (W + 2) + W / 2) * C, 0};
      const T *const ws[2] = {w + t * w_task + b, 0};
      N(tile)(1, (int)C, 1, xs, ws, (W + 2) * C, shift + t * O + ob, O);
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

// gw (packed, [B], added to) from gy with a border [B n, H+2, W+2, O] and x [B n, H+2, W+2, C]
void N(conv_weights)(const T *x, const T *gy, T *gw, long n, long g0, long g1, long H, long W, long C, long O) {
  const long row = (W + 2) * C, gy_row = (W + 2) * O, most = N(band_rows)(W, O);
  for (long g = g0; g < g1; g++)
    for (long h = 0; h < H; h += most) {
      const long rows = h + most < H ? most : H - h;
      const T *at = x + (g * (H + 2) + h) * row, *from = gy + (g * (H + 2) + h + 1) * gy_row + O;
      T *to = gw + g / n * 9 * C * O;
      N(band)(C, at, from, gy_row, O, rows, W, to);
    }
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
               long gamma_task, const double *total, long parts, T *gy, long B, long n, long g0, long g1, long H,
               long W, long O) {
  const long row = (W + 2) * O;
  T k[O], k0[O], k1[O];
  for (long g = g0; g < g1; g++) {
    const long t = g / n;
    if (g == g0 || g % n == 0)
      N(coefficients)(total + t * 2 * O, parts, B * 2 * O, mean + t * O, rstd + t * O, gamma + t * gamma_task,
                      (double)n * H * W, O, k, k0, k1);
    T *image = gy + g * (H + 2) * row;
    memset(image, 0, row * sizeof(T));
    memset(image + (H + 1) * row, 0, row * sizeof(T));
    for (long h = 0; h < H; h++) {
      T *to = image + (h + 1) * row;
      EACH to[c] = to[row - O + c] = 0;
      N(gy_row)(y + (g * H + h) * W * O, gz, index, 0, k, k0, k1, g, h, H, W, O, to + O);
    }
  }
}

// The whole gradient without keeping gy: adds to gw (packed, [B]), and writes gx with a border unless it is null.
// extra: a further gradient of y, or null. y may be null as in pool. scratch: (H+2)(W+2)O numbers.
void N(block_backward)(const T *x, const T *weights, long w_task, const T *turned, long turned_task, const T *y, const T *gz,
                       const unsigned char *index, const T *extra, const T *mean, const T *rstd, const T *gamma,
                       long gamma_task, const double *total, long parts, T *gw, T *gx, T *scratch, long B, long n,
                       long g0, long g1, long H, long W, long C, long O) {
  const long row = (W + 2) * C, gy_row = (W + 2) * O, most = N(band_rows)(W, O);
  T k[O], k0[O], k1[O], buffer[y ? 1 : W * O];
  memset(scratch, 0, (H + 2) * gy_row * sizeof(T));
  for (long g = g0; g < g1; g++) {
    const long t = g / n;
    if (g == g0 || g % n == 0)
      N(coefficients)(total + t * 2 * O, parts, B * 2 * O, mean + t * O, rstd + t * O, gamma + t * gamma_task,
                      (double)n * H * W, O, k, k0, k1);
    for (long h = 0; h < H; h += most) {
      const long rows = h + most < H ? most : H - h;
      T *to = scratch + (gx ? h + 1 : 1) * gy_row + O; // rows that nobody else reads lie in the first cache
      for (long r = 0; r < rows; r++) {
        const T *from = N(row_of_y)(y ? y + g * H * W * O : 0, x + g * (H + 2) * row, weights + t * w_task, buffer,
                                    h + r, W, C, O);
        N(gy_row)(from, gz, index, extra, k, k0, k1, g, h + r, H, W, O, to + r * gy_row);
      }
      const T *at = x + (g * (H + 2) + h) * row;
      T *sum = gw + t * 9 * C * O;
      N(band)(C, at, to, gy_row, O, rows, W, sum);
    }
    if (gx) {
      T *image = gx + g * (H + 2) * row;
      // scratch is one example: as example 0 of one task
      N(conv)(scratch, turned + t * turned_task, 0, 0, 0, 0, image, 1, 0, 0, 1, 0, 1, H, W, O, C);
    }
  }
}

// ---------------------------------------------------------------------------------------------- second order
// The gradient of <yd, gy> + <γd, gγ> + <βd, gβ>: yd [B n, H+2, W+2, O] is a direction in y. By symmetry its
// derivative in gz is the derivative of z along the direction:
//     x̂d = rstd (yd - m1 - x̂ m2)     m1 = mean(yd)     m2 = mean(x̂ yd)     zd = γd x̂ + γ x̂d + βd

// adds to total [B][2][O] the sums of yd and of yd (y - mean)
void N(direction_sums)(const T *restrict y, const T *restrict yd, const T *mean, double *total, long n, long g0,
                       long g1, long H, long W, long O) {
  T s[O], q[O];
  for (long g = g0; g < g1; g++) {
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
// gd: the sum of gu·x̂d. All but k·gu is affine in y and yd.
void N(direction_unpool)(const T *restrict y, const T *restrict yd, const T *restrict gz,
                         const unsigned char *restrict index, const T *mean, const T *rstd, const T *gamma,
                         const T *gamma_d, long gamma_task, const T *m1, const T *m2, const T *gg, const T *gb,
                         const T *gd, T *restrict out, long n, long g0, long g1, long H, long W, long O) {
  const long h2 = H / 2, w2 = W / 2;
  const double count = (double)n * H * W;
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
