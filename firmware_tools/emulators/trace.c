/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* A plugin of QEMU: writes a line "address count" each time one of the given addresses is reached, with the instructions
 * executed until then. Arguments: out=FILE and any number of at=ADDRESS (hexadecimal). What is declared below is the part
 * of the plugin interface that it uses, and the same in all its versions; qemu.py adds `qemu_plugin_version`:
 * https://www.qemu.org/docs/master/devel/tcg-plugins.html */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 64

typedef struct block block;
extern void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*translated)(uint64_t id, block *tb));
extern void qemu_plugin_register_vcpu_tb_exec_cb(block *tb, void (*executed)(unsigned cpu, void *data), int flags, void *data);
extern size_t qemu_plugin_tb_n_insns(const block *tb);
extern uint64_t qemu_plugin_tb_vaddr(const block *tb);
enum { NO_REGISTERS = 0 };

__attribute__((visibility("default"))) int qemu_plugin_install(uint64_t id, const void *info, int count, char **arguments);

static FILE *out;
static uint64_t instructions, addresses[MOST];
static int watched;

static void reached(unsigned cpu, void *address) {
    (void)cpu;
    fprintf(out, "%" PRIx64 " %" PRIu64 "\n", (uint64_t)(uintptr_t)address, instructions);
    fflush(out);
}

static void executed(unsigned cpu, void *count) {
    (void)cpu;
    instructions += (uintptr_t)count;
}

static void translated(uint64_t id, block *tb) {
    uint64_t at = qemu_plugin_tb_vaddr(tb);
    (void)id;
    for (int i = 0; i < watched; i++)
        if (addresses[i] == at) qemu_plugin_register_vcpu_tb_exec_cb(tb, reached, NO_REGISTERS, (void *)(uintptr_t)at);
    qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, NO_REGISTERS, (void *)(uintptr_t)qemu_plugin_tb_n_insns(tb));
}

int qemu_plugin_install(uint64_t id, const void *info, int count, char **arguments) {
    (void)info;
    for (int i = 0; i < count; i++) {
        if (strncmp(arguments[i], "out=", 4) == 0) out = fopen(arguments[i] + 4, "w");
        if (strncmp(arguments[i], "at=", 3) == 0 && watched < MOST) addresses[watched++] = strtoull(arguments[i] + 3, 0, 16);
    }
    if (!out) return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
