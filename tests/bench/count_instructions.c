// A TCG plugin for qemu-user: counts the instructions that a program executes between two reads of its stdin.
//
//     cc -shared -fPIC -O2 count_instructions.c -o count_instructions.so
//     qemu-aarch64 -plugin ./count_instructions.so,out=FILE PROGRAM
//
// A program that answers requests reads stdin when it has done with one. With each such read FILE is written anew: how many
// reads there were and all instructions so far, then of the time since the read before "address instructions" of each block.
// A block is counted whole when it begins, as QEMU's own insn plugin does; one that a fault leaves early counts too much.
// The count is deterministic for one thread. Debian's packages bring no header, so the functions of QEMU's interface
// (version 1) that are used are declared here.
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
typedef struct qemu_info_t qemu_info_t;
enum { ADD_U64 = 0, READ = 63 };  // a system call's number on aarch64

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int operation, void *to, uint64_t what);
typedef void on_syscall(qemu_plugin_id_t, unsigned vcpu, int64_t number, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                        uint64_t, uint64_t, uint64_t);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, on_syscall *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

struct block {
    struct block *before;
    uint64_t address, executed;
};

static struct block *blocks;
static char out[4000], part[4096];

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    (void)id;
    struct block *block = calloc(1, sizeof *block);
    if (!block) abort();
    block->address = qemu_plugin_tb_vaddr(tb);
    do  // threads translate one at a time, but this is no promise of QEMU's
        block->before = blocks;
    while (!__sync_bool_compare_and_swap(&blocks, block->before, block));
    qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &block->executed, qemu_plugin_tb_n_insns(tb));
}

static void called(qemu_plugin_id_t id, unsigned vcpu, int64_t number, uint64_t descriptor, uint64_t b, uint64_t c,
                   uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
    (void)id, (void)vcpu, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    static uint64_t reads, total;
    if (number != READ || descriptor != 0) return;
    FILE *file = fopen(part, "w");
    if (!file) abort();
    for (struct block *block = blocks; block; block = block->before) total += block->executed;
    fprintf(file, "%" PRIu64 " %" PRIu64 "\n", ++reads, total);
    for (struct block *block = blocks; block; block = block->before) {
        if (block->executed) fprintf(file, "%" PRIx64 " %" PRIu64 "\n", block->address, block->executed);
        block->executed = 0;
    }
    fclose(file);
    rename(part, out);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int count,
                                                               char **argument) {
    (void)info;
    if (count != 1 || strncmp(argument[0], "out=", 4) || strlen(argument[0]) >= sizeof out) return -1;
    strcpy(out, argument[0] + 4);
    snprintf(part, sizeof part, "%s.part", out);
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
