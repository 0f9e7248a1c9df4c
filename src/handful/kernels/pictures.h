// The first block, of pictures: C of 1 to 3 channels, in which nobody differentiates.
//
// A patch p of a picture has K = 9 C numbers, and y = w·p. The statistics of y need no y: over all patches,
// mean(y) = w·mean(p) and var(y) = w·cov(p)·w. Folded into the weights, they leave
//
//     z = relu(maxpool2(a·p + b))      a = γ rstd w      b = β - γ rstd mean(y)
//
// which is linear in a and b where the same patches are chosen: its gradient is the sum of the chosen patches times
// gz, and the gradient of that takes the same choice of directions. So y and its gradients are never made.

typedef double N(VD) __attribute__((vector_size(VL * sizeof(double)), aligned(sizeof(double)), may_alias));
#define VD N(VD)

// Adds to total [B][1 + K][K] the sum of p - shift over the patches of the support, and the sums of products of two of
// its numbers (in the upper triangle), with shift [B][C] near the mean of each channel, so that nothing cancels: in
// double after every few lines, since w may be orthogonal to what most patches share. K is ordered as w: [C][3][3].
void N(patch_moments)(const T *x, const T *shift, double *total, long support, long n, long g0, long g1, long H, long W,
                      long C) {
  const long K = 9 * C, wide = (W + VL - 1) / VL * VL, row = (W + 2) * C, few = 8;
  const long all = K + 9 * (K / 3) * (K / 3 + 1) / 2;
  T *ring = N(claim)(9 * C * wide + all * VL + W + 2), *sums = ring + 9 * C * wide, *plane = sums + all * VL;
  double *doubles = (double *)N(claim)(all * VL * (long)(sizeof(double) / sizeof(T)));
  if (ring) memset(ring, 0, (size_t)(9 * C * wide + all * VL) * sizeof(T)); // what lies beyond W stays zero
  for (long g = g0; g < g1 && !starved; g++) {
    if (g % n >= support) continue;
    const T *restrict picture = x + g * (H + 2) * row, *restrict s = shift + g / n * C;
    memset(doubles, 0, (size_t)(all * VL) * sizeof(double));
    for (long line = 0; line < H + 2; line++) {
      T *restrict to = ring + line % 3 * 3 * C * wide; // [C][3][wide]: a line, moved by no, one and two pixels
      for (long c = 0; c < C; c++) {
        for (long w = 0; w < W + 2; w++) plane[w] = picture[line * row + w * C + c] - s[c];
        for (long j = 0; j < 3; j++) memcpy(to + (3 * c + j) * wide, plane + j, (size_t)W * sizeof(T));
      }
      if (line < 2) continue;
      const T *p[3 * C]; // the three of each channel and row of the filter
      for (long k = 0; k < 3 * C; k++) p[k] = ring + ((line - 2 + k % 3) % 3 * C + k / 3) * 3 * wide;
      T *into = sums;
      for (long k = 0; k < 3 * C; k++, into += 3 * VL) {
        V a[3] = {LOAD(into), LOAD(into + VL), LOAD(into + 2 * VL)};
        for (long w = 0; w < wide; w += VL)
          UNROLL for (int q = 0; q < 3; q++) a[q] += LOAD(p[k] + q * wide + w);
        UNROLL for (int q = 0; q < 3; q++) STORE(into + q * VL) = a[q];
      }
      for (long k = 0; k < 3 * C; k++)
        for (long l = k; l < 3 * C; l++, into += 9 * VL) {
          V a[9];
          UNROLL for (int q = 0; q < 9; q++) a[q] = LOAD(into + q * VL);
          for (long w = 0; w < wide; w += VL) {
            const V own[3] = {LOAD(p[k] + w), LOAD(p[k] + wide + w), LOAD(p[k] + 2 * wide + w)};
            const V other[3] = {LOAD(p[l] + w), LOAD(p[l] + wide + w), LOAD(p[l] + 2 * wide + w)};
            UNROLL for (int q = 0; q < 9; q++) a[q] += own[q / 3] * other[q % 3];
          }
          UNROLL for (int q = 0; q < 9; q++) STORE(into + q * VL) = a[q];
        }
      if (line % few != 0 && line != H + 1) continue;
      for (long i = 0; i < all * VL; i += VL) {
        *(VD *)(doubles + i) += __builtin_convertvector(LOAD(sums + i), VD);
        STORE(sums + i) = (V){0};
      }
    }
    double *out = total + g / n * (1 + K) * K;
    const double *from = doubles;
    for (long k = 0; k < K; k++, from += VL)
      for (long lane = 0; lane < VL; lane++) out[k] += from[lane];
    for (long k = 0; k < 3 * C; k++)
      for (long l = k; l < 3 * C; l++)
        for (long q = 0; q < 9; q++, from += VL)
          for (long lane = 0; lane < VL; lane++) out[(1 + 3 * k + q / 3) * K + 3 * l + q % 3] += from[lane];
  }
  free(ring), free(doubles);
}

#define CELLS (PIXELS / 4) // four sums each, of two vectors

// z of `cells` neighbors, from the first one's window x: the greatest of four, and which (4: relu cut it); or, where
// the choice is `fixed`, what was chosen
AI void N(select_)(const int cells, const int C, const int fixed, const T *restrict x, long row, const T *restrict a,
                   const T *restrict b, T *restrict z, unsigned char *restrict index, long O) {
  V u[CELLS][4][2];
  UNROLL for (int p = 0; p < cells; p++)
    UNROLL for (int q = 0; q < 4; q++)
      UNROLL for (int v = 0; v < 2; v++) u[p][q][v] = LOAD(b + v * VL);
  for (int i = 0; i < 3; i++)
    ROLLED for (int j = 0; j < 3 * C; j++, a += OB) {
      const T *restrict r = x + i * row + j;
      const V a0 = LOAD(a), a1 = LOAD(a + VL);
      UNROLL for (int p = 0; p < cells; p++)
        UNROLL for (int q = 0; q < 4; q++) {
          const T one = r[q / 2 * row + (2 * p + q % 2) * C];
          u[p][q][0] += one * a0;
          u[p][q][1] += one * a1;
        }
    }
  UNROLL for (int p = 0; p < cells; p++)
    UNROLL for (int v = 0; v < 2; v++) {
      V best = u[p][0][v];
      VI k = {0};
      if (fixed) {
        k = BYTES(index + p * O + v * VL);
        UNROLL for (int q = 1; q < 4; q++) best = CHOOSE(k == q, u[p][q][v], best);
        STORE(z + p * O + v * VL) = ONLY(k < 4, best);
        continue;
      }
      UNROLL for (int q = 1; q < 4; q++) {
        const V other = u[p][q][v];
        const VI better = (VI)(other > best) | (VI)(other != other); // NaN wins, as in PyTorch
        best = CHOOSE(better, other, best);
        k = (better & q) | (~better & k);
      }
      const VI cut = (VI)(best <= 0);
      STORE(z + p * O + v * VL) = ONLY(~cut, best);
      *(VC *)(index + p * O + v * VL) = __builtin_convertvector((cut & 4) | (~cut & k), VC);
    }
}

AI void N(select_row)(const int C, const int fixed, const T *x, long row, const T *a, const T *b, T *z,
                      unsigned char *index, long w2, long O) {
  long w = 0;
  for (; w + CELLS <= w2; w += CELLS)
    N(select_)(CELLS, C, fixed, x + 2 * w * C, row, a, b, z + w * O, index + w * O, O);
  for (; w < w2; w++) N(select_)(1, C, fixed, x + 2 * w * C, row, a, b, z + w * O, index + w * O, O);
}

#define SELECT(name, c, fixed)                                                                                       \
  static void N(name)(const T *x, long row, const T *a, const T *b, T *z, unsigned char *index, long w2, long O) {    \
    N(select_row)(c, fixed, x, row, a, b, z, index, w2, O);                                                           \
  }
SELECT(select_1, 1, 0)
SELECT(select_2, 2, 0)
SELECT(select_3, 3, 0)
SELECT(selected_1, 1, 1)
SELECT(selected_2, 2, 1)
SELECT(selected_3, 3, 1)
#undef SELECT

typedef void (*N(select_t))(const T *, long, const T *, const T *, T *, unsigned char *, long, long);

// z with a border [B n, H/2+2, W/2+2, O] and index [B n, H/2, W/2, O], which is read where the choice is fixed.
// a [O][C][3][3] and b [O] of tasks.
void N(picture_select)(const T *x, const T *a, const T *b, long fixed, T *restrict z, unsigned char *restrict index,
                       long n, long g0, long g1, long H, long W, long C, long O) {
  const long row = (W + 2) * C, h2 = H / 2, w2 = W / 2, zrow = (w2 + 2) * O;
  const N(select_t) select[2][3] = {{N(select_1), N(select_2), N(select_3)},
                                    {N(selected_1), N(selected_2), N(selected_3)}};
  T *u = N(packed)(0, C, O);
  for (long g = g0; g < g1 && !starved; g++) {
    if (g == g0 || g % n == 0) N(pack)(a + g / n * 9 * C * O, 0, C, O, u);
    N(frame)(z + g * (h2 + 2) * zrow, h2, w2, O);
    for (long h = 0; h < h2; h++)
      for (long ob = 0; ob < O; ob += OB) {
        const T *from = x + (g * (H + 2) + 2 * h) * row, *with = u + 9 * C * ob, *more = b + g / n * O + ob;
        T *to = z + (g * (h2 + 2) + h + 1) * zrow + O + ob;
        unsigned char *at = index + (g * h2 + h) * w2 * O + ob;
        select[fixed][C - 1](from, row, with, more, to, at, w2, O);
      }
  }
  free(u);
}

// Sums over a picture of gz times the chosen patches, `rows` of the filter's from the one at x on, and of gz; for OB
// channels, TAKEN vectors of them at once.
AI void N(gathered)(const int rows, const int C, const T *restrict x, long row, const T *restrict gz,
                    const unsigned char *restrict index, long h2, long w2, long O, T *restrict ga, T *restrict gb) {
  for (int v = 0; v < 2; v += TAKEN) {
    V a[9][TAKEN], b[TAKEN];
    UNROLL for (int t = 0; t < TAKEN; t++) {
      b[t] = (V){0};
      UNROLL for (int k = 0; k < 3 * rows * C; k++) a[k][t] = (V){0};
    }
    for (long h = 0; h < h2; h++) {
      const T *restrict z = gz + h * (w2 + 2) * O + v * VL, *restrict from = x + 2 * h * row;
      const unsigned char *restrict at = index + h * w2 * O + v * VL;
      for (long w = 0; w < w2; w++, z += O, at += O, from += 2 * C) {
        V d[4][TAKEN];
        UNROLL for (int t = 0; t < TAKEN; t++) {
          const VI k = BYTES(at + t * VL);
          const V one = LOAD(z + t * VL);
          UNROLL for (int q = 0; q < 4; q++) d[q][t] = ONLY(k == q, one);
          b[t] += ONLY(k < 4, one);
        }
        UNROLL for (int i = 0; i < rows; i++)
          UNROLL for (int j = 0; j < 3 * C; j++)
            UNROLL for (int q = 0; q < 4; q++) {
              const T one = from[(i + q / 2) * row + q % 2 * C + j];
              UNROLL for (int t = 0; t < TAKEN; t++) a[3 * C * i + j][t] += one * d[q][t];
            }
      }
    }
    UNROLL for (int t = 0; t < TAKEN; t++) {
      STORE(gb + (v + t) * VL) = b[t];
      UNROLL for (int k = 0; k < 3 * rows * C; k++) STORE(ga + k * OB + (v + t) * VL) = a[k][t];
    }
  }
}

// adds to ga [B][O][C][3][3] and gb [B][O] the sums of gz times the chosen patches, and of gz
void N(picture_gather)(const T *x, const T *gz, const unsigned char *index, double *ga, double *gb, long n, long g0,
                       long g1, long H, long W, long C, long O) {
  const long row = (W + 2) * C, h2 = H / 2, w2 = W / 2;
  for (long g = g0; g < g1; g++)
    for (long ob = 0; ob < O; ob += OB) {
      const T *from = x + g * (H + 2) * row, *z = gz + ((g * (h2 + 2) + 1) * (w2 + 2) + 1) * O + ob;
      const unsigned char *at = index + g * h2 * w2 * O + ob;
      T a[9 * 3 * OB], b[OB]; // [3][3 C][OB]
      if (C == 1) N(gathered)(3, 1, from, row, z, at, h2, w2, O, a, b);
      else
        for (long i = 0; i < 3; i++) {
          if (C == 3) N(gathered)(1, 3, from + i * row, row, z, at, h2, w2, O, a + 9 * i * OB, b);
          else N(gathered)(1, 2, from + i * row, row, z, at, h2, w2, O, a + 6 * i * OB, b);
        }
      double *out = ga + (g / n * O + ob) * 9 * C, *more = gb + g / n * O + ob;
      for (long o = 0; o < OB; o++) {
        more[o] += b[o];
        for (long k = 0; k < 9; k++)
          for (long c = 0; c < C; c++) out[o * 9 * C + c * 9 + k] += a[(k * C + c) * OB + o];
      }
    }
}
