/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "fully_connected_bfp_core_v6m.h"

static inline void edge_alone(edge_core core, edge_job *job, size_t groups, size_t group_bytes) {
    (void)groups, (void)group_bytes;
    core.groups(job);
}

void edge_fully_connected_bfp_v6m(const int32_t *x, int32_t *y, const edge_bfp_matrix *matrix, size_t count,
                                  void *workspace) {
    for (; count > 0; count--, x += 1 + matrix->columns, y += 1 + matrix->rows)
        edge_connect(edge_narrow, edge_alone, x, y, matrix, workspace);
}

void edge_fully_connected_bfp_wide_v6m(const int32_t *x, int32_t *y, const edge_bfp_matrix *matrix, size_t count,
                                       void *workspace) {
    for (; count > 0; count--, x += 1 + matrix->columns, y += 1 + matrix->rows)
        edge_connect(edge_wide, edge_alone, x, y, matrix, workspace);
}
