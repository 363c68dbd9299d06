/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_TABLE_INT8_H
#define EDGE_TABLE_INT8_H

#include <stdint.h>

/* y[count], bytes: table[256] at the bytes of x; y may be x. */
void edge_table_int8(const void *x, void *y, const int8_t *table, int32_t count);

#endif
