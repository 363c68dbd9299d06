/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#include "answer.h"

#include "session.h"

static char text[ANSWER_BYTES + 1];
static size_t length; /* more than ANSWER_BYTES: too long to act on */
static char told[ANSWER_TOLD_BYTES + 1];
static size_t told_length;
static int to_person;

__attribute__((weak)) void on_answer(const char *answer, size_t bytes) {
    (void)answer;
    (void)bytes;
}

void answer_tell(const char *what) {
    if (to_person) {
        session_print("\r\n[");
        session_print(what);
        session_print("]");
    }
    if (told_length && told_length < ANSWER_TOLD_BYTES) told[told_length++] = ',';
    while (*what && told_length < ANSWER_TOLD_BYTES) told[told_length++] = *what++;
    told[told_length] = 0;
}

const char *answer_told(void) {
    return told;
}

void answer_begin(void) {
    length = told_length = 0;
    told[0] = 0;
}

void answer_add(const uint8_t *piece, size_t bytes) {
    for (size_t i = 0; i < bytes && length <= ANSWER_BYTES; i++, length++)
        if (length < ANSWER_BYTES) text[length] = (char)piece[i];
}

void answer_end(int whom) {
    if (length > ANSWER_BYTES) return;
    text[length] = 0;
    to_person = whom == ANSWER_TO_PERSON;
    on_answer(text, length);
    to_person = 0;
    length = 0;
}
