// Batch normalization of planes, for one type of number T, after block.h:
//
//     d = x - mean,   y = γ rstd d + β        mean and rstd over the n examples and S places of a channel of a task
//
// its gradient, and the gradient of its gradient. x [B][n][C][S]; γ, β, mean and rstd [B][C]. Every function works on
// channels g0 to g1 of the B·C of B tasks. Sums over planes are in vectors of T, over more than a few planes in double.

#define TOGETHER 8 // planes

// the sum of the lanes, which are zero then
AI double N(lanes)(V *s) {
  double sum = 0;
  for (int i = 0; i < VL; i++) sum += (*s)[i];
  *s = (V){0};
  return sum;
}

// the planes of a channel, one by one: `at` is where the next begins
#define PLANES for (long e = 0, at = (g / C * n * C + g % C) * S; e < n; e++, at += C * S)

// Σ d^power of a channel
AI double N(moment)(const int power, const T *x, T mean, long n, long C, long S, long g) {
  double sum = 0;
  V s = {0};
  PLANES {
    long i = 0;
    for (; i + VL <= S; i += VL) {
      const V d = LOAD(x + at + i) - mean;
      if (power == 1) s += d;
      else s += d * d;
    }
    for (; i < S; i++) {
      const T d = x[at + i] - mean;
      sum += power == 1 ? d : d * d;
    }
    if (e % TOGETHER == TOGETHER - 1 || e == n - 1) sum += N(lanes)(&s);
  }
  return sum;
}

void N(normalize)(const T *restrict x, const T *weight, const T *bias, const double *eps, T *restrict y, T *means,
                  T *rstds, long n, long C, long S, long g0, long g1) {
  const double places = (double)n * S;
  for (long g = g0; g < g1; g++) {
    const double rough = N(moment)(1, x, 0, n, C, S, g) / places;
    const T mean = rough + N(moment)(1, x, (T)rough, n, C, S, g) / places;
    const T rstd = 1 / __builtin_sqrt(N(moment)(2, x, mean, n, C, S, g) / places + *eps);
    const T scale = weight[g] * rstd, shift = bias[g];
    means[g] = mean, rstds[g] = rstd;
    PLANES {
      for (long i = 0; i < S; i++) y[at + i] = (x[at + i] - mean) * scale + shift;
    }
  }
}

// Σ g, Σ g d and, `again`, Σ v, Σ v d, Σ v g of a channel
AI void N(sums)(const int again, const T *x, const T *gy, const T *v, T mean, long n, long C, long S, long g,
                double sum[5]) {
  V s[5] = {{0}, {0}, {0}, {0}, {0}};
  for (int k = 0; k < 5; k++) sum[k] = 0;
  PLANES {
    long i = 0;
    for (; i + VL <= S; i += VL) {
      const V d = LOAD(x + at + i) - mean, a = LOAD(gy + at + i);
      s[0] += a, s[1] += a * d;
      if (again) {
        const V b = LOAD(v + at + i);
        s[2] += b, s[3] += b * d, s[4] += b * a;
      }
    }
    for (; i < S; i++) {
      const T d = x[at + i] - mean, a = gy[at + i];
      sum[0] += a, sum[1] += a * d;
      if (again) sum[2] += v[at + i], sum[3] += v[at + i] * d, sum[4] += v[at + i] * a;
    }
    if (e % TOGETHER == TOGETHER - 1 || e == n - 1)
      for (int k = 0; k < (again ? 5 : 2); k++) sum[k] += N(lanes)(s + k);
  }
}

// gx = γ rstd (gy - mean(gy) - d rstd² mean(gy d))
void N(normalize_slopes)(const T *restrict x, const T *restrict gy, const T *weight, const T *means, const T *rstds,
                         T *restrict gx, T *gweight, T *gbias, long n, long C, long S, long g0, long g1) {
  const double places = (double)n * S;
  for (long g = g0; g < g1; g++) {
    const T mean = means[g], rstd = rstds[g], scale = weight[g] * rstd;
    double s[5];
    N(sums)(0, x, gy, gy, mean, n, C, S, g, s);
    gbias[g] = s[0], gweight[g] = rstd * s[1];
    const T of_d = -scale * rstd * rstd * s[1] / places, rest = -scale * s[0] / places;
    PLANES {
      for (long i = 0; i < S; i++) gx[at + i] = scale * gy[at + i] + of_d * (x[at + i] - mean) + rest;
    }
  }
}

// The same once more: what Σ v gx + vweight gweight + vbias gbias changes by with gy, with x and with the weight. All
// are sums of v, gy, d and one, each by a number of the channel.
void N(normalize_curves)(const T *restrict x, const T *restrict gy, const T *weight, const T *means, const T *rstds,
                         const T *restrict v, const T *vweight, const T *vbias, T *restrict ggy, T *restrict gx,
                         T *gweight, long n, long C, long S, long g0, long g1) {
  const double places = (double)n * S;
  for (long g = g0; g < g1; g++) {
    const T mean = means[g];
    const double rstd = rstds[g], square = rstd * rstd, scale = weight[g] * rstd;
    double s[5];
    N(sums)(1, x, gy, v, mean, n, C, S, g, s);
    const double both = s[4] - s[2] * s[0] / places - square * s[3] * s[1] / places; // v and gy, but for mean and d
    gweight[g] = rstd * both;
    const double by_v = -scale * square * s[1] / places;
    const double by_gy = -scale * square * s[3] / places + vweight[g] * rstd;
    const T of_v = scale, d_of_v = vweight[g] * rstd - scale * square * s[3] / places;
    const T rest_of_v = vbias[g] - scale * s[2] / places, a = by_v, b = by_gy;
    const T c = -square * (scale * both + by_v * s[3] + by_gy * s[1]) / places;
    const T rest = -(by_v * s[2] + by_gy * s[0]) / places;
    PLANES {
      for (long i = 0; i < S; i++) {
        const T d = x[at + i] - mean, upon = v[at + i], slope = gy[at + i];
        ggy[at + i] = of_v * upon + d_of_v * d + rest_of_v;
        gx[at + i] = a * upon + b * slope + c * d + rest;
      }
    }
  }
}
