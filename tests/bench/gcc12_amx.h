// GCC up to 12 tells its optimizer that _tile_loadconfig reads 8 bytes, where it reads 64, and drops what llama.cpp wrote
// into the others: the first AMX instruction then ends the process. With `-include` of this file they are kept.
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#define _tile_loadconfig(from) __asm__ volatile("ldtilecfg %0" : : "m"(*(const char(*)[64])(from)))
#endif
