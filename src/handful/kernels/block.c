// The kernels of a convolutional block, for float (suffix _f) and double (_d); see block.h. Built with GCC or Clang
// for several processors at once by hatch_build.py; the fastest that runs here is chosen by library.py.

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

#define STRIP 16      // tiles at once: enough for a product, few enough for the second cache
#define LEAST_TILED 3 // rows and columns from which maps are convolved in tiles

// Registers decide how many sums fit: 2 PIXELS + 3, 2 ROWS + 3 and 15 TAKEN of 32 or 16.
#if defined(__AVX512F__)
#define VB 64
#define PIXELS 14
#define ROWS 12
#define TAKEN 2
#define TILES \
  TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6) TILE(7) TILE(8) TILE(9) TILE(10) TILE(11) TILE(12) TILE(13) TILE(14)
#elif defined(__AVX__)
#define VB 32
#define PIXELS 6
#define ROWS 6
#define TAKEN 1
#define TILES TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)
#else
#error these kernels need AVX2
#endif

static _Thread_local int starved; // this thread's kernel found no memory

#define T float
#define I int
#define LANES (VB / 4)
#define N(name) name##_f
#include "block.h"
#include "pictures.h"
#include "product.h"
#include "normalization.h"
#include "gelu.h"
#include "layer_norm.h"
#include "convolution.h"
#undef N
#undef I
#undef T

#define T double
#define I long long
#undef LANES
#define LANES (VB / 8)
#define N(name) name##_d
#include "block.h"
#include "pictures.h"
#include "product.h"
#include "normalization.h"
#include "gelu.h"
#include "layer_norm.h"
#include "convolution.h"

// ---------------------------------------------------------------------------------------------- threads

#define MOST 32 // arguments of a kernel

typedef void (*kernel)(long, long, long, long, long, long, long, long, long, long, long, long, long, long, long, long,
                       long, long, long, long, long, long, long, long, long, long, long, long, long, long, long, long);
typedef struct {
  kernel run;
  const long *arguments;
  long parts, next;
  int starved;
} work;

static void join(void *data) {
  work *w = data;
  for (long part; (part = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED)) < w->parts;) {
    const long *a = w->arguments + part * MOST;
    w->run(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15], a[16],
           a[17], a[18], a[19], a[20], a[21], a[22], a[23], a[24], a[25], a[26], a[27], a[28], a[29], a[30], a[31]);
    if (starved) __atomic_store_n(&w->starved, 1, __ATOMIC_RELAXED);
    starved = 0;
  }
}

// A kernel on `parts` lists of MOST arguments, pointers and whole numbers, by as many threads of the OpenMP runtime
// whose GOMP_parallel this is. (A function of fewer arguments leaves the rest of the stack alone.) 1 if memory ran out.
int team(void (*parallel)(void (*)(void *), void *, unsigned, unsigned), void *run, const long *arguments, long parts) {
  work w = {(kernel)run, arguments, parts, 0, 0};
  if (parts == 1) join(&w);
  else parallel(join, &w, (unsigned)parts, 0);
  return w.starved;
}
