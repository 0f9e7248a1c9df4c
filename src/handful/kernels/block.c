// The kernels of a convolutional block, for float (suffix _f) and double (_d); see block.h. Built with GCC or Clang
// for several processors at once by hatch_build.py; the fastest that runs here is chosen by __init__.py.

#include <stdlib.h>
#include <string.h>

#define AI static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#define ROLLED
#else
#define ROLLED _Pragma("GCC unroll 1")
#pragma GCC optimize("no-predictive-commoning") // it keeps neighbors' numbers, for which there is no register
#define UNROLL _Pragma("GCC unroll 16")
#endif

// Registers decide how many sums fit: 2 PIXELS + 3 and 2 ROWS + 3 of 32 or 16.
#if defined(__AVX512F__)
#define VB 64
#define PIXELS 14
#define ROWS 12
#define TILES TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6) TILE(7) TILE(8) TILE(9) TILE(10) TILE(11) TILE(12) TILE(13) TILE(14)
#elif defined(__AVX__)
#define VB 32
#define PIXELS 6
#define ROWS 6
#define TILES TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)
#else
#error these kernels need AVX2
#endif

#define T float
#define I int
#define N(name) name##_f
#include "block.h"
#undef N
#undef I
#undef T

#define T double
#define I long long
#define N(name) name##_d
#include "block.h"
