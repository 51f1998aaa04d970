/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "link.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

void link_init(struct link *link, int fd)
{
	link->fd = fd;
	pthread_mutex_init(&link->lock, NULL);
}

void link_die(const char *format, ...)
{
	va_list arguments;

	fputs("platform: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	_exit(LINK_EXIT);
}

static void send_all(struct link *link, const char *data, size_t size)
{
	while (size) {
		/* MSG_NOSIGNAL: a harness that is gone is a message on stderr, not a SIGPIPE. */
		ssize_t sent = send(link->fd, data, size, MSG_NOSIGNAL);

		if (sent < 0 && errno != EINTR)
			link_die("cannot write to the harness: %s", strerror(errno));
		if (sent > 0) {
			data += sent;
			size -= (size_t)sent;
		}
	}
}

void link_send(struct link *link, const char *format, ...)
{
	static __thread char line[LINK_LINE_MAX];
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(line, sizeof(line) - 1, format, arguments);
	va_end(arguments);
	if (length < 0 || (size_t)length >= sizeof(line) - 1)
		link_die("a line to the harness is longer than %d bytes", LINK_LINE_MAX);
	line[length] = '\n';
	send_all(link, line, (size_t)length + 1);
}

int64_t link_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool link_readable(struct link *link, int timeout)
{
	struct pollfd poller = {.fd = link->fd, .events = POLLIN};

	return poll(&poller, 1, timeout) > 0;
}

/* The next complete line of `input`, NULL when there is none. */
static char *take_line(struct link *link)
{
	char *start = link->input + link->taken;
	char *end = memchr(start, '\n', link->used - link->taken);

	if (!end)
		return NULL;
	*end = '\0';
	link->taken = (size_t)(end + 1 - link->input);
	return start;
}

static void fill(struct link *link)
{
	ssize_t size;

	memmove(link->input, link->input + link->taken, link->used - link->taken);
	link->used -= link->taken;
	link->taken = 0;
	if (link->used == sizeof(link->input))
		link_die("the harness sent a line of more than %d bytes", LINK_LINE_MAX);
	size = recv(link->fd, link->input + link->used, sizeof(link->input) - link->used, 0);
	if (size == 0)
		link_die("the harness closed the link");
	if (size < 0 && errno != EINTR)
		link_die("cannot read from the harness: %s", strerror(errno));
	link->used += size > 0 ? (size_t)size : 0;
}

char *link_receive(struct link *link, int64_t deadline)
{
	for (;;) {
		char *line = take_line(link);
		int64_t left = deadline - link_now();

		if (line)
			return line;
		if (!link_readable(link, left > 0 ? (int)left : 0)) {
			if (left <= 0)
				return NULL;
			continue;
		}
		fill(link);
	}
}
