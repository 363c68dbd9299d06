/* A port of the firmware to this machine: bytes come by stdin and go by stdout, SIGUSR1 is a BREAK, the end of stdin
 * is the end. Time for time-outs runs EDGE_TIME_SCALE times as fast as the clock on the wall. The cycle counter counts
 * the model's steps, 1000 ticks each, so that whoever asks for ticks learns how much was computed. */
#define _POSIX_C_SOURCE 200809L
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "port.h"

#ifndef HOST_PORT_NAME
#define HOST_PORT_NAME "EMULATED host-port"
#endif

extern uint64_t host_model_steps;
const char edge_image[] = "0000000000000000000000000000000000000000000000000000000000000000";
static volatile sig_atomic_t broken;
static uint8_t buffer[4096];
static ssize_t filled, used;
static uint32_t scale = 1;

static void on_break(int number) {
    (void)number;
    broken = 1;
}

void port_init(void) {
    struct sigaction action = {.sa_handler = on_break};
    sigaction(SIGUSR1, &action, 0);
    const char *text = getenv("EDGE_TIME_SCALE");
    if (text) scale = (uint32_t)atoi(text);
}

int port_read(void) {
    if (broken) {
        broken = 0;
        return PORT_BREAK;
    }
    if (used == filled) {
        struct pollfd in = {.fd = 0, .events = POLLIN};
        if (poll(&in, 1, 0) != 1) return PORT_NOTHING;
        filled = read(0, buffer, sizeof buffer);
        used = 0;
        if (filled <= 0) exit(0);
    }
    return buffer[used++];
}

void port_write(const uint8_t *bytes, size_t count) {
    while (count) {
        ssize_t written = write(1, bytes, count);
        if (written < 0) exit(1);
        bytes += written;
        count -= (size_t)written;
    }
}

void port_idle(void) {
    struct pollfd in = {.fd = 0, .events = POLLIN};
    poll(&in, 1, 10);
}

uint64_t port_ticks(void) {
    return host_model_steps * 1000u;
}

uint32_t port_millis(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)(((uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u) * scale);
}

uint32_t port_ticks_hz(void) {
    return 1000000u;
}

/* The gates are what the model looks at: a step without one raised is an error of the runtime. */
int host_gates;

void port_gate(unsigned gate, int high) {
    host_gates = (host_gates & ~(1 << gate)) | high << gate;
}

size_t port_stack_bytes(void) {
    return 0;
}

const char *port_name(void) {
    return HOST_PORT_NAME;
}

const char *port_weights_in(void) {
    return "";
}

const char *port_trouble(void) {
    return "";
}

void port_pin(unsigned pin, int high) {
    (void)pin;
    (void)high;
}

size_t port_image(const uint8_t **start) {
    *start = 0;
    return 0;
}
