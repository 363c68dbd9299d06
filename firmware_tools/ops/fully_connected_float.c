/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "fully_connected_float.h"

void edge_clamp_f32(float *y, size_t count, float least, float most) {
    for (; count--; y++) *y = *y < least ? least : *y > most ? most : *y;
}
