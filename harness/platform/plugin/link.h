/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The socket to the harness: lines, and what becomes of a harness that is silent, gone or talks nonsense. */
#ifndef LINK_H
#define LINK_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINK_DATA_MAX 65536			/* bytes of guest memory in one line */
#define LINK_LINE_MAX (2 * LINK_DATA_MAX + 256)

/* EX_SOFTWARE of sysexits.h: QEMU never exits with it, so the harness knows that the platform ended it. */
#define LINK_EXIT 70

struct link {
	int fd;
	pthread_mutex_t lock;		/* of the one who reads: the reader thread, or a vCPU that waits for its answer */
	size_t used;			/* bytes in `input` */
	size_t taken;			/* bytes of `input` that are lines already returned */
	char input[LINK_LINE_MAX];
};

void link_init(struct link *link, int fd);

/* Ends QEMU: a guest that waits for an answer that never comes would hang unseen. */
__attribute__((noreturn, format(printf, 1, 2))) void link_die(const char *format, ...);

/* Sends a line; the newline is added. */
__attribute__((format(printf, 2, 3))) void link_send(struct link *link, const char *format, ...);

/* The monotonic clock, in milliseconds. */
int64_t link_now(void);

/* A line without its newline, valid until the next call; NULL when none is complete at `deadline`. */
char *link_receive(struct link *link, int64_t deadline);

/* Whether a line or the end may be there to be received. Waits for at most `timeout` ms; needs no lock. */
bool link_readable(struct link *link, int timeout);

#endif
