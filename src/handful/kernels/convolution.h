// Convolutions of any filter and stride, and both their gradients, for one type of number T, after product.h:
//
//     y[o, h, w] = Σ w[o, c, i, j] x[c, h·sh + i - ph, w·sw + j - pw]
//
// Maps lie as torch has them: in planes [C][H][W], or channels-last, in pixels [H][W][C]. A kernel works on pixels with a
// border of zeros, one example at a time, so that a row of the filter meets kw·C neighboring numbers, and so a tile of y is a sum as in
// product.h. Filters of 3x3 that block.h can tile go by its Winograd's filtering.

typedef struct { // as Python gives it, and what follows from it
  long C, H, W, O, kh, kw, sh, sw, ph, pw, last; // last: maps are channels-last
  long oh, ow; // of y
} N(sizes);

static N(sizes) N(read)(const long *z) {
  N(sizes) s = {z[0], z[1], z[2], z[3], z[4], z[5], z[6], z[7], z[8], z[9], z[10], 0, 0};
  s.oh = (s.H + 2 * s.ph - s.kh) / s.sh + 1, s.ow = (s.W + 2 * s.pw - s.kw) / s.sw + 1;
  return s;
}

static int N(filtered)(N(sizes) s) {
  return s.kh == 3 && s.kw == 3 && s.sh == 1 && s.sw == 1 && s.ph == 1 && s.pw == 1 && N(tiled)(s.H, s.W, s.C, s.O);
}

AI long N(vectors)(long channels) { return (channels + VL - 1) / VL * VL; }

// ---------------------------------------------------------------------------------------------- planes and pixels

// C planes of H·W numbers <-> pixels: rows `row` and columns `apart` numbers apart. Blocks at an end overlap.
AI void N(turn)(const int back, T *planes, long C, long H, long W, T *pixels, long row, long apart) {
  const long area = H * W;
  if (C < VL || area < VL) {
    for (long h = 0; h < H; h++)
      for (long w = 0; w < W; w++)
        for (long c = 0; c < C; c++) {
          T *plane = planes + c * area + h * W + w, *pixel = pixels + h * row + w * apart + c;
          if (back) *plane = *pixel;
          else *pixel = *plane;
        }
    return;
  }
  for (long at = 0, h = 0, w = 0; at < area; at += VL) {
    const long p = at + VL > area ? area - VL : at;
    T *to[VL];
    if (p != at) h = p / W, w = p % W;
    for (int i = 0; i < VL; i++) {
      to[i] = pixels + h * row + w * apart;
      if (++w == W) w = 0, h++;
    }
    for (long c = 0; c < C; c += VL) {
      const long o = c + VL > C ? C - VL : c;
      V v[VL];
      UNROLL for (int i = 0; i < VL; i++) v[i] = back ? LOAD(to[i] + o) : LOAD(planes + (o + i) * area + p);
      N(transpose)(v);
      UNROLL for (int i = 0; i < VL; i++)
        if (back) STORE(planes + (o + i) * area + p) = v[i];
        else STORE(to[i] + o) = v[i];
    }
  }
}

// a map as it lies -> pixels, rows `row` and columns `apart` numbers apart
static void N(fetch)(long last, const T *map, long C, long H, long W, T *pixels, long row, long apart) {
  if (!last) N(turn)(0, (T *)map, C, H, W, pixels, row, apart);
  else
    for (long h = 0; h < H; h++)
      for (long w = 0; w < (apart == C ? 1 : W); w++)
        memcpy(pixels + h * row + w * apart, map + (h * W + w) * C, (apart == C ? W : 1) * C * sizeof(T));
}

// and back, from rows without gaps
static void N(bring)(long last, T *map, long C, long H, long W, const T *pixels, long apart) {
  if (!last) N(turn)(1, map, C, H, W, (T *)pixels, W * apart, apart);
  else if (apart == C) memcpy(map, pixels, H * W * C * sizeof(T));
  else
    for (long p = 0; p < H * W; p++) memcpy(map + p * C, pixels + p * apart, C * sizeof(T));
}

// ---------------------------------------------------------------------------------------------- weights

// Filters w [O][C][kh][kw] <-> sums over (i, j, c) [kh][kw][C] by output, `apart` numbers from one to the next: packed
// in panels [O/OB][kh][kw][C][OB], or as gradients, which are added to w, side by side [kh][kw][C][O].
AI void N(turn_filters)(const int back, T *w, N(sizes) s, T *sums, long panel, long apart) {
  const long filter = s.kh * s.kw, all = s.C * filter;
  for (long o = 0; o < s.O; o += VL)
    for (long at = 0; at < all; at += VL) {
      T *from = w + o * all + at, *to = sums + o / OB * panel + o % OB;
      if (o + VL <= s.O && at + VL <= all) {
        T *where[LANES];
        for (long i = 0; i < VL; i++) where[i] = to + ((at + i) % filter * s.C + (at + i) / filter) * apart;
        V v[LANES];
        UNROLL for (int i = 0; i < LANES; i++) v[i] = back ? LOAD(where[i]) : LOAD(from + i * all);
        N(transpose)(v);
        UNROLL for (int i = 0; i < LANES; i++)
          if (back) STORE(from + i * all) += v[i];
          else STORE(where[i]) = v[i];
      } else
        for (long i = 0; i < (at + VL < all ? VL : all - at); i++)
          for (long l = 0; l < (o + VL < s.O ? VL : s.O - o); l++) {
            T *there = to + ((at + i) % filter * s.C + (at + i) / filter) * apart + l, *here = from + l * all + i;
            if (back) *here += *there;
            else *there = *here;
          }
    }
}

static void N(pack_filters)(const T *w, N(sizes) s, T *out) {
  if (s.O % OB) memset(out, 0, (s.O + OB - 1) / OB * OB * s.C * s.kh * s.kw * sizeof(T));
  N(turn_filters)(0, (T *)w, s, out, s.C * s.kh * s.kw * OB, OB);
}

static void N(add_gradient)(const T *sums, N(sizes) s, T *gw) {
  N(turn_filters)(1, gw, s, (T *)sums, OB, N(vectors)(s.O));
}

// The filters by which gy gives gx: turned by half a turn, of every sh-th row from i0 on and every sw-th column from j0
// on, [panels][kh][kw][O][OB].
static void N(pack_phase)(const T *w, N(sizes) s, long i0, long j0, long kh, long kw, T *out) {
  const long filter = s.kh * s.kw;
  for (long p = 0; p < s.C; p += OB) {
    const long channels = p + OB < s.C ? OB : s.C - p;
    for (long i = 0; i < kh; i++)
      for (long j = 0; j < kw; j++) {
        const T *at = w + p * filter + (i0 + (kh - 1 - i) * s.sh) * s.kw + j0 + (kw - 1 - j) * s.sw;
        for (long o = 0; o < s.O; o++, out += OB, at += s.C * filter) {
          for (long c = 0; c < channels; c++) out[c] = at[c * filter];
          for (long c = channels; c < OB; c++) out[c] = 0;
        }
      }
  }
}

// a map by filters of kh x kw: pixels of `in`, rows `in_row` apart, from which a step goes down or right, to `rows` x
// `columns` pixels of out
static void N(correlate)(const T *in, long in_row, long from, long down, long right, const T *packed, long kh, long kw,
                         T *out, long out_row, long apart, long to, long rows, long columns) {
  const long tiles = (columns + PIXELS - 1) / PIXELS, size = (columns + tiles - 1) / tiles;
  for (long h = 0; h < rows; h++)
    for (long w = 0; w < columns; w += size) {
      const int px = (int)(w + size < columns ? size : columns - w);
      for (long o = 0; o < to; o += OB)
        N(dots)(px, to - o > VL ? 2 : 1, 0, kh, kw * from, in + h * down * in_row + w * right * from, right * from, 1,
                in_row, packed + o * kh * kw * from, OB, kw * from * OB, out + h * out_row + w * apart + o, apart);
    }
}

// ---------------------------------------------------------------------------------------------- y, gx, gw

// y [B n, O, oh, ow] of x [B n, C, H, W] and w [B, O, C, kh, kw], which lie w_task numbers apart (0: one for all)
void N(convolution)(const T *x, const T *w, long w_task, T *y, const long *sizes, long n, long g0, long g1) {
  const N(sizes) s = N(read)(sizes);
  const int tiled = N(filtered)(s);
  const long rows = s.H + 2 * s.ph, row = (s.W + 2 * s.pw) * s.C, apart = N(vectors)(s.O);
  const long most = N(strip_maps)(tiled, s.H, s.W, g1 - g0, n, 0);
  T *v = N(room)(tiled, 1, s.H, s.W, s.C), *m = N(room)(tiled, 1, s.H, s.W, s.O);
  T *in = N(claim)(most * rows * row), *out = N(claim)(most * s.oh * s.ow * apart);
  T *packed = tiled ? N(packed)(1, s.C, s.O) : N(claim)((s.O + OB - 1) / OB * OB * s.kh * s.kw * s.C);
  if (!starved) memset(in, 0, most * rows * row * sizeof(T));
  for (long g = g0, maps; g < g1 && !starved; g += maps) {
    if (g == g0 || (g % n == 0 && w_task)) {
      const T *own = w + g / n * w_task;
      if (tiled) N(pack)(own, 1, s.C, s.O, packed);
      else N(pack_filters)(own, s, packed);
    }
    maps = N(strip_maps)(tiled, s.H, s.W, g1 - g, n, g);
    for (long e = 0; e < maps; e++)
      N(fetch)(s.last, x + (g + e) * s.C * s.H * s.W, s.C, s.H, s.W, in + e * rows * row + s.ph * row + s.pw * s.C, row, s.C);
    if (tiled) {
      const T *const xs[2] = {in, 0}, *const us[2] = {packed, 0};
      N(convolve)(maps, xs, us, 1, out, s.W * s.O, s.H * s.W * s.O, 0, 0, 0, 0, v, m, s.H, s.W, s.C, s.O);
    } else
      N(correlate)(in, row, s.C, s.sh, s.sw, packed, s.kh, s.kw, out, s.ow * apart, apart, s.O, s.oh, s.ow);
    for (long e = 0; e < maps; e++)
      N(bring)(s.last, y + (g + e) * s.O * s.oh * s.ow, s.O, s.oh, s.ow, out + e * s.oh * s.ow * apart, apart);
  }
  free(v), free(m), free(in), free(out), free(packed);
}

// The gradient in x, [B n, C, H, W], of gy [B n, O, oh, ow]. A pixel of x meets every sh-th row of the filter, from one
// that is the same for every sh-th row of x: each of these phases is a convolution of gy.
void N(convolution_x)(const T *gy, const T *w, long w_task, T *gx, const long *sizes, long n, long g0, long g1) {
  const N(sizes) s = N(read)(sizes);
  const int tiled = N(filtered)(s);
  const long high = (s.kh - 1) / s.sh, wide = (s.kw - 1) / s.sw; // the border before gy
  const long rows = tiled ? s.H + 2 : high + (s.H + s.ph - 1) / s.sh + 1;
  const long columns = tiled ? s.W + 2 : wide + (s.W + s.pw - 1) / s.sw + 1;
  const long row = columns * s.O, apart = N(vectors)(s.C), phase = (s.C + OB - 1) / OB * OB * s.kh * s.kw * s.O;
  const long most = N(strip_maps)(tiled, s.H, s.W, g1 - g0, n, 0);
  const long reach_h = s.oh < rows - high ? s.oh : rows - high, reach_w = s.ow < columns - wide ? s.ow : columns - wide;
  T *v = N(room)(tiled, 1, s.H, s.W, s.O), *m = N(room)(tiled, 1, s.H, s.W, s.C);
  T *in = N(claim)(most * rows * row), *out = N(claim)(most * s.H * s.W * apart);
  T *packed = tiled ? N(packed)(1, s.O, s.C) : N(claim)(s.sh * s.sw * phase);
  if (!starved) memset(in, 0, most * rows * row * sizeof(T)), memset(out, 0, most * s.H * s.W * apart * sizeof(T));
  for (long g = g0, maps; g < g1 && !starved; g += maps) {
    const int fresh = g == g0 || (g % n == 0 && w_task);
    const T *own = w + g / n * w_task;
    if (fresh && tiled) N(pack_turned)(own, 1, s.O, s.C, packed);
    maps = N(strip_maps)(tiled, s.H, s.W, g1 - g, n, g);
    for (long e = 0; e < maps; e++) {
      const T *from = gy + (g + e) * s.O * s.oh * s.ow;
      T *to = in + e * rows * row + (tiled ? row + s.O : high * row + wide * s.O);
      if (reach_h == s.oh && reach_w == s.ow) N(fetch)(s.last, from, s.O, s.oh, s.ow, to, row, s.O);
      else
        for (long h = 0; h < reach_h; h++)
          for (long c = 0; c < s.O; c++)
            for (long q = 0; q < reach_w; q++)
              to[h * row + q * s.O + c] = from[s.last ? (h * s.ow + q) * s.O + c : (c * s.oh + h) * s.ow + q];
    }
    if (tiled) {
      const T *const xs[2] = {in, 0}, *const us[2] = {packed, 0};
      N(convolve)(maps, xs, us, 1, out, s.W * s.C, s.H * s.W * s.C, 0, 0, 0, 0, v, m, s.H, s.W, s.O, s.C);
    } else
      for (long i = 0; i < s.sh && i < s.kh; i++)
        for (long j = 0; j < s.sw && j < s.kw; j++) {
          const long kh = (s.kh - 1 - i) / s.sh + 1, kw = (s.kw - 1 - j) / s.sw + 1;
          // x at h = q sh + i - ph meets rows i, i + sh, ... of the filter and q, q - 1, ... of gy
          const long q = i < s.ph ? (s.ph - i + s.sh - 1) / s.sh : 0, r = j < s.pw ? (s.pw - j + s.sw - 1) / s.sw : 0;
          const long h = q * s.sh + i - s.ph, c = r * s.sw + j - s.pw;
          T *filters = packed + (i * s.sw + j) * phase;
          if (fresh) N(pack_phase)(own, s, i, j, kh, kw, filters);
          if (h < s.H && c < s.W)
            N(correlate)(in + (high + q - kh + 1) * row + (wide + r - kw + 1) * s.O, row, s.O, 1, 1, filters, kh, kw,
                         out + (h * s.W + c) * apart, s.sh * s.W * apart, s.sw * apart, s.C,
                         (s.H - 1 - h) / s.sh + 1, (s.W - 1 - c) / s.sw + 1);
        }
    for (long e = 0; e < maps; e++)
      N(bring)(s.last, gx + (g + e) * s.C * s.H * s.W, s.C, s.H, s.W, out + e * s.H * s.W * apart, apart);
  }
  free(v), free(m), free(in), free(out), free(packed);
}

// The gradient in w, [B, O, C, kh, kw], added to, of gy [B n, O, oh, ow] and x [B n, C, H, W]
void N(convolution_w)(const T *x, const T *gy, T *gw, const long *sizes, long n, long g0, long g1) {
  const N(sizes) s = N(read)(sizes);
  const int tiled = N(filtered)(s);
  const long rows = s.H + 2 * s.ph, row = (s.W + 2 * s.pw) * s.C, apart = N(vectors)(s.O), numbers = s.kw * s.C;
  const long high = tiled ? s.oh + 2 : s.oh, line = (tiled ? s.ow + 2 : s.ow) * apart;
  const long most = N(strip_maps)(tiled, s.H, s.W, g1 - g0, n, 0), down = 4 * N(strip_rows)(s.H, s.W);
  T *v = N(room)(tiled, 1, s.H, s.W, s.C), *m = N(room)(tiled, 1, s.H, s.W, s.O);
  T *in = N(claim)(most * rows * row), *out = N(claim)(most * high * line);
  T *sum = tiled ? N(packed)(1, s.C, s.O) : N(claim)(s.kh * numbers * apart);
  if (!starved) memset(in, 0, most * rows * row * sizeof(T)), memset(out, 0, most * high * line * sizeof(T));
  for (long g = g0, maps; g < g1 && !starved; g += maps) {
    if (g == g0 || g % n == 0) {
      if (tiled) N(clear)(1, s.C, s.O, sum);
      else memset(sum, 0, s.kh * numbers * apart * sizeof(T));
    }
    maps = N(strip_maps)(tiled, s.H, s.W, g1 - g, n, g);
    for (long e = 0; e < maps; e++) {
      N(fetch)(s.last, x + (g + e) * s.C * s.H * s.W, s.C, s.H, s.W, in + e * rows * row + s.ph * row + s.pw * s.C, row, s.C);
      N(fetch)(s.last, gy + (g + e) * s.O * s.oh * s.ow, s.O, s.oh, s.ow, out + e * high * line + (tiled ? line + apart : 0),
                   line, apart);
    }
    if (tiled)
      for (long h = 0; h < s.H; h += down) {
        const long left = s.H - h < down ? s.H - h : down;
        N(strip_weights)((N(strip)){maps, h, (left + 3) / 4, (s.W + 3) / 4, s.H, s.W}, in, out, s.C, s.O, v, m, sum);
      }
    else {
      const long tiles = (numbers + PIXELS - 1) / PIXELS, size = (numbers + tiles - 1) / tiles;
      for (long i = 0; i < s.kh; i++)
        for (long j = 0; j < numbers; j += size)
          for (long o = 0; o < s.O; o += OB)
            N(dots)((int)(j + size < numbers ? size : numbers - j), s.O - o > VL ? 2 : 1, 1, s.oh, s.ow,
                    in + i * row + j, 1, s.sw * s.C, s.sh * row, out + o, apart, line, sum + (i * numbers + j) * apart + o,
                    apart);
    }
    if (g + maps < g1 && (g + maps) % n) continue;
    T *to = gw + g / n * s.O * s.C * s.kh * s.kw;
    if (tiled) N(unpack)(sum, 1, s.C, s.O, to);
    else N(add_gradient)(sum, s, to);
  }
  free(v), free(m), free(in), free(out), free(sum);
}

#undef EXCHANGE
#undef SHUFFLE
#undef EVERY
#undef FOUR
#undef SECOND
#undef FIRST
#undef EACH
#undef VECTORS
#undef ONLY
#undef CHOOSE
#undef BYTES
#undef STORE
#undef LOAD
#undef NQ
#undef NP
#undef QQ
#undef PP
#undef Q
#undef P
#undef OB
#undef VL
#undef VC
#undef VI
#undef V
