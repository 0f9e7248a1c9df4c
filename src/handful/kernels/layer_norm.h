// Layer normalization, for one type of number T, after gelu.h:
//
//     d = x - mean,   y = γ rstd d + β        mean and rstd over the D numbers of a row
//
// its gradient, and the gradient of its gradient. x [B][n][D]; γ and β [B][D]; mean and rstd [B][n]. Every function works
// on rows g0 to g1 of the B·n of B tasks. What belongs to γ and β it adds to arrays of its own, in double: rows are many.

// the sum of the lanes
AI T N(total)(V s) {
  s += SHUFFLE(s, s, SECOND, 1);
  s += SHUFFLE(s, s, SECOND, 2);
#if LANES > 4
  s += SHUFFLE(s, s, SECOND, 4);
#endif
#if LANES > 8
  s += SHUFFLE(s, s, SECOND, 8);
#endif
  return s[0];
}

void N(normalize_rows)(const T *restrict x, const T *weight, const T *bias, const double *eps, T *restrict y, T *means,
                       T *rstds, long n, long D, long g0, long g1) {
  for (long g = g0; g < g1; g++) {
    const T *restrict row = x + g * D, *restrict scale = weight + g / n * D, *restrict shift = bias + g / n * D;
    V sum = {0}, squares = {0};
    for (long i = 0; i < D; i += VL) sum += N(taken)(row, i, D);
    const T mean = N(total)(sum) / D;
    long i = 0;
    for (; i + VL <= D; i += VL) {
      const V d = LOAD(row + i) - mean;
      squares += d * d;
    }
    double variance = N(total)(squares);
    for (; i < D; i++) variance += (row[i] - mean) * (row[i] - mean);
    const T rstd = 1 / __builtin_sqrt(variance / D + *eps);
    means[g] = mean, rstds[g] = rstd;
    for (i = 0; i < D; i++) y[g * D + i] = scale[i] * rstd * (row[i] - mean) + shift[i];
  }
}

// gx = rstd (u - mean(u) - d rstd² mean(u d)),   u = γ gy
void N(normalize_slopes_rows)(const T *restrict x, const T *restrict gy, const T *weight, const T *means, const T *rstds,
                              T *restrict gx, double *restrict gweight, double *restrict gbias, long n, long D, long g0,
                              long g1) {
  for (long g = g0; g < g1; g++) {
    const T *restrict row = x + g * D, *restrict slopes = gy + g * D, *restrict scale = weight + g / n * D;
    double *restrict of_weight = gweight + g / n * D, *restrict of_bias = gbias + g / n * D;
    const T mean = means[g], rstd = rstds[g];
    V u0 = {0}, u1 = {0};
    for (long i = 0; i < D; i += VL) {
      const V d = N(taken)(row, i, D) - mean, u = N(taken)(scale, i, D) * N(taken)(slopes, i, D);
      u0 += u, u1 += u * d;
    }
    const T of_d = -rstd * rstd * rstd * N(total)(u1) / D, rest = -rstd * N(total)(u0) / D;
    for (long i = 0; i < D; i++) {
      const T d = row[i] - mean, slope = slopes[i];
      gx[g * D + i] = rstd * scale[i] * slope + of_d * d + rest;
      of_weight[i] += slope * rstd * d;
      of_bias[i] += slope;
    }
  }
}

// The same once more: what Σ v gx + vweight gweight + vbias gbias changes by with gy, with x and with γ. With w = vweight
// gy, and sums over the row, all are sums of u, v, w, d and one, each by a number of the row.
void N(normalize_curves_rows)(const T *restrict x, const T *restrict gy, const T *weight, const T *means, const T *rstds,
                              const T *restrict v, const T *vweight, const T *vbias, T *restrict ggy, T *restrict gx,
                              double *restrict gweight, long n, long D, long g0, long g1) {
  for (long g = g0; g < g1; g++) {
    const long task = g / n * D;
    const T *restrict row = x + g * D, *restrict slopes = gy + g * D, *restrict along = v + g * D;
    const T *restrict scale = weight + task, *restrict of_scale = vweight + task, *restrict of_shift = vbias + task;
    double *restrict of_weight = gweight + task;
    const T mean = means[g];
    V u0 = {0}, u1 = {0}, v0 = {0}, v1 = {0}, uv = {0}, w0 = {0}, w1 = {0};
    for (long i = 0; i < D; i += VL) {
      const V d = N(taken)(row, i, D) - mean, slope = N(taken)(slopes, i, D), a = N(taken)(along, i, D);
      const V u = N(taken)(scale, i, D) * slope, w = N(taken)(of_scale, i, D) * slope;
      u0 += u, u1 += u * d, v0 += a, v1 += a * d, uv += u * a, w0 += w, w1 += w * d;
    }
    const double rstd = rstds[g], square = rstd * rstd, cube = square * rstd;
    const double mean_u = N(total)(u0) / (double)D, u_d = N(total)(u1) / (double)D, mean_v = N(total)(v0) / (double)D;
    const double v_d = N(total)(v1) / (double)D, w_d = N(total)(w1) / (double)D;
    const double both = N(total)(uv) / (double)D - mean_u * mean_v - square * u_d * v_d;
    const T r = rstd, v_of_d = -square * v_d, v_rest = -mean_v; // v without its mean and its part along d
    const T by_v = -cube * u_d, by_u = -cube * v_d, by_d = -cube * (w_d + both - 2 * square * u_d * v_d);
    const T rest = cube * (u_d * mean_v + v_d * mean_u) - rstd * N(total)(w0) / D;
    for (long i = 0; i < D; i++) {
      const T d = row[i] - mean, slope = slopes[i], across = r * (along[i] + v_of_d * d + v_rest);
      ggy[g * D + i] = scale[i] * across + of_scale[i] * r * d + of_shift[i];
      gx[g * D + i] = r * of_scale[i] * slope + by_v * along[i] + by_u * scale[i] * slope + by_d * d + rest;
      of_weight[i] += across * slope;
    }
  }
}
