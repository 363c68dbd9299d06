/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Two cores of Armv6-M share the rows: each computes half of the groups, by the same instructions as one core alone. */
#include "fully_connected_bfp_core_v6m.h"
#include "pair.h"

/* Jobs are copied, as computing one changes it, and named, so that the call graph tells where each half leads. */
EDGE_BFP_PART void edge_half(void *jobs, unsigned half) {
    edge_job job = ((const edge_job *)jobs)[half];
    edge_groups(&job);
}

EDGE_BFP_PART void edge_wide_half(void *jobs, unsigned half) {
    edge_job job = ((const edge_job *)jobs)[half];
    edge_wide_groups(&job);
}

static inline void edge_split(edge_pair_work *work, edge_core core, edge_job *job, size_t groups, size_t group_bytes) {
    size_t mine = (groups + 1) / 2;
    if (mine == groups) {
        core.groups(job);
        return;
    }
    edge_job jobs[2] = {*job, *job};
    jobs[0].y_end = jobs[1].y = job->y + 4 * mine;
    jobs[1].weights = (const uint8_t *)job->weights + mine * group_bytes;
    jobs[1].scales = job->scales + 4 * mine;
    edge_pair(work, jobs);
}

static inline void edge_together(edge_core core, edge_job *job, size_t groups, size_t group_bytes) {
    edge_split(edge_half, core, job, groups, group_bytes);
}

static inline void edge_wide_together(edge_core core, edge_job *job, size_t groups, size_t group_bytes) {
    edge_split(edge_wide_half, core, job, groups, group_bytes);
}

void edge_fully_connected_bfp_v6m_pair(const int32_t *x, int32_t *y, const edge_bfp_matrix *matrix, size_t count,
                                       void *workspace) {
    for (; count > 0; count--, x += 1 + matrix->columns, y += 1 + matrix->rows)
        edge_connect(edge_narrow, edge_together, x, y, matrix, workspace);
}

void edge_fully_connected_bfp_wide_v6m_pair(const int32_t *x, int32_t *y, const edge_bfp_matrix *matrix, size_t count,
                                            void *workspace) {
    for (; count > 0; count--, x += 1 + matrix->columns, y += 1 + matrix->rows)
        edge_connect(edge_wide, edge_wide_together, x, y, matrix, workspace);
}
