// GELU, y = x Φ(x), its gradient g (Φ + x φ), and the gradient of that, for one type of number T, after block.h. Φ and
// φ are the normal distribution and its density. Every function works on numbers i0 to i1.

#if LANES == VB / 4 // float

// exp of numbers that are not positive: 2^n exp(r), where r is at most ln(2)/2 in size; 0 below -87
AI V N(decay)(V x) {
  const V least = (V){0} - 87, turned = CHOOSE(x < least, least, x);
  const V shift = (V){0} + 12582912, n = turned * (T)1.44269504 + shift; // 1.5 · 2^23: n is in the last bits
  const V r = turned - (n - shift) * (T)0.693359375 + (n - shift) * (T)2.12194440e-4;
  V s = (V){0} + (T)(1. / 5040);
  s = s * r + (T)(1. / 720), s = s * r + (T)(1. / 120), s = s * r + (T)(1. / 24), s = s * r + (T)(1. / 6);
  s = s * r + (T)0.5, s = s * r + 1, s = s * r + 1;
  return ONLY(~(x < least), (VI)s + (((VI)n - (VI)shift) << 23));
}

// Φ and φ. For a = |x| is Φ(-a) = exp(-a²/2) t p(t), where t = 1 / (1 + a/4), to 4e-8 of itself.
AI void N(normal)(V x, V *distribution, V *density) {
  static const T p[] = {9.973556672e-02, 9.973643165e-02, 9.346635385e-02, 8.160312855e-02, 5.897502261e-02,
                         6.369955421e-02, -3.171840095e-02, 9.559807209e-02, -8.087789693e-02, 1.978215122e-02};
  const V a = CHOOSE(x < 0, -x, x), e = N(decay)(x * x * (T)-0.5), t = 1 / (1 + a * (T)0.25);
  V s = (V){0} + p[9];
  UNROLL for (int k = 8; k >= 0; k--) s = s * t + p[k];
  const V tail = e * t * s;
  *distribution = CHOOSE(x < 0, tail, 1 - tail);
  *density = e * (T)0.3989422804014327;
}

#else

AI void N(normal)(V x, V *distribution, V *density) {
  for (int l = 0; l < LANES; l++) {
    (*distribution)[l] = 0.5 * __builtin_erfc(-x[l] * 0.7071067811865476);
    (*density)[l] = __builtin_exp(-0.5 * x[l] * x[l]) * 0.3989422804014327;
  }
}

#endif

// a vector from i on, or what is left of it before i1
AI V N(taken)(const T *from, long i, long i1) {
  if (i + VL <= i1) return LOAD(from + i);
  T rest[VB / sizeof(T)] = {0};
  memcpy(rest, from + i, (i1 - i) * sizeof(T));
  return LOAD(rest);
}

AI void N(given)(T *to, long i, long i1, V v) {
  if (i + VL <= i1) STORE(to + i) = v;
  else memcpy(to + i, &v, (i1 - i) * sizeof(T));
}

void N(gelu)(const T *x, T *y, long i0, long i1) {
  for (long i = i0; i < i1; i += VL) {
    const V at = N(taken)(x, i, i1);
    V distribution, density;
    N(normal)(at, &distribution, &density);
    N(given)(y, i, i1, at * distribution);
  }
}

void N(gelu_slopes)(const T *x, const T *gy, T *gx, long i0, long i1) {
  for (long i = i0; i < i1; i += VL) {
    const V at = N(taken)(x, i, i1);
    V distribution, density;
    N(normal)(at, &distribution, &density);
    N(given)(gx, i, i1, N(taken)(gy, i, i1) * (distribution + at * density));
  }
}

// what v gx changes by with gy and with x
void N(gelu_curves)(const T *x, const T *gy, const T *v, T *ggy, T *gx, long i0, long i1) {
  for (long i = i0; i < i1; i += VL) {
    const V at = N(taken)(x, i, i1), upon = N(taken)(v, i, i1);
    V distribution, density;
    N(normal)(at, &distribution, &density);
    N(given)(ggy, i, i1, upon * (distribution + at * density));
    N(given)(gx, i, i1, upon * N(taken)(gy, i, i1) * density * (2 - at * at));
  }
}
