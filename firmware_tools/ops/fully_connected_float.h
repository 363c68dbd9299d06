/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_FULLY_CONNECTED_FLOAT_H
#define EDGE_FULLY_CONNECTED_FLOAT_H

#include "fully_connected.h"

/* y[count] clamped to least … most. */
void edge_clamp_f32(float *y, size_t count, float least, float most);

#endif
