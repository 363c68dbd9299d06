// llama.cpp behind lines on stdin and stdout, for bench_llama.py and bench_llama_instructions.py.
//
//     llama_child MODEL.gguf CONTEXT BATCH UBATCH THREADS BATCH_THREADS FLASH(0|1) EXTRA(0|1) MMAP(0|1)
//
// p POSITION ID…   computes ids from a position on, and forgets what the cache held from there; answers "ok"
// g COUNT          computes so many tokens, the most probable ones; answers "ok ID…"
// l                answers "ok" and, after the line break, the logits as float32
//
// Only the last token of `p` gets logits. stderr says why it ends.
#include <llama.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_LINE = 1 << 20, MOST_IDS = 1 << 17 };

static char line[LONGEST_LINE];
static llama_token ids[MOST_IDS];

static void quiet(enum ggml_log_level level, const char *text, void *unused) {
    (void)unused;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static void stop(const char *why) {
    fprintf(stderr, "%s\n", why);
    exit(1);
}

static int most_probable(const float *logits, int count) {
    int best = 0;
    for (int i = 1; i < count; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static void compute(struct llama_context *context, llama_token *tokens, int count) {
    const int most = (int)llama_n_batch(context);
    for (int first = 0; first < count; first += most) {
        const int part = count - first < most ? count - first : most;
        // llama_batch_get_one: positions go on from what the cache holds, and only the last token gets logits
        if (llama_decode(context, llama_batch_get_one(tokens + first, part))) stop("llama_decode failed");
    }
}

static int parse(char *text) {
    int count = 0;
    for (char *word = strtok(text, " \n"); word && count < MOST_IDS; word = strtok(NULL, " \n")) ids[count++] = atoi(word);
    return count;
}

int main(int count, char **argument) {
    if (count != 10) stop("usage: see the first lines of llama_child.c");
    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model_params of_model = llama_model_default_params();
    of_model.n_gpu_layers = 0;
    of_model.use_extra_bufts = atoi(argument[8]);
    of_model.load_mode = atoi(argument[9]) ? LLAMA_LOAD_MODE_MMAP : LLAMA_LOAD_MODE_NONE;
    struct llama_model *model = llama_model_load_from_file(argument[1], of_model);
    if (!model) stop("the model cannot be loaded");
    struct llama_context_params of_context = llama_context_default_params();
    of_context.n_ctx = (uint32_t)atoi(argument[2]);
    of_context.n_batch = (uint32_t)atoi(argument[3]);
    of_context.n_ubatch = (uint32_t)atoi(argument[4]);
    of_context.n_seq_max = 1;
    of_context.n_threads = atoi(argument[5]);
    of_context.n_threads_batch = atoi(argument[6]);
    of_context.flash_attn_type = atoi(argument[7]) ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    of_context.no_perf = true;
    struct llama_context *context = llama_init_from_model(model, of_context);
    if (!context) stop("no context");
    const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
    puts("ok");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        const int given = parse(line + 1);
        if (line[0] == 'p') {
            llama_memory_seq_rm(llama_get_memory(context), 0, ids[0], -1);
            compute(context, ids + 1, given - 1);
            puts("ok");
        } else if (line[0] == 'g') {
            const int wanted = ids[0];
            fputs("ok", stdout);
            for (int i = 0; i < wanted; i++) {
                llama_token next = most_probable(llama_get_logits_ith(context, -1), vocabulary);
                compute(context, &next, 1);
                printf(" %d", next);
            }
            puts("");
        } else if (line[0] == 'l') {
            puts("ok");
            fwrite(llama_get_logits_ith(context, -1), sizeof(float), (size_t)vocabulary, stdout);
        } else
            stop("no such command");
        fflush(stdout);
    }
    llama_free(context);
    llama_model_free(model);
    return 0;
}
