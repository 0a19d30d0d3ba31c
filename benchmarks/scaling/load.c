/* A load that costs as little as possible: Nginx and wrk need more of the processors than the server that is measured.

   load SOCKET CONNECTIONS MILLISECONDS <packet

   It keeps so many connections to a unix socket going, each with one request, takes the answers in the order in which it has
   asked, and opens a new connection in the place of each. It prints the number of answers, and the nanoseconds that have passed
   meanwhile. It ends with 1 and a line on stderr where an answer is not `HTTP/1.1 200`, or does not come within 10 s.
   An answer has less than 4 KiB. */

#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_SECONDS 10
#define MOST_CONNECTIONS 4096

static const char good[] = "HTTP/1.1 200 ";

static void
fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static long long
now(void)
{
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    return moment.tv_sec * 1000000000LL + moment.tv_nsec;
}

/* Open a connection and send the packet; give its descriptor. */
static int
ask(const struct sockaddr_un *address, const char *packet, size_t size)
{
    const struct timeval patience = {.tv_sec = ANSWER_SECONDS};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* The time to send limits connect(2), too: unix(7) waits there while the backlog is full. */
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0
        || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0
        || connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0
        || send(fd, packet, size, MSG_NOSIGNAL) != (ssize_t)size)
    {
        fail(strerror(errno));
    }
    return fd;
}

/* Take the answer up to its end, and close the connection. */
static void
take(int fd)
{
    char answer[4096];
    size_t size = 0;
    ssize_t more;
    while ((more = recv(fd, answer + size, sizeof(answer) - size, 0)) > 0) {
        size += (size_t)more;
    }
    if (more < 0 || size < sizeof(good) || memcmp(answer, good, sizeof(good) - 1) != 0) {
        fail(more < 0 ? strerror(errno) : "an answer is not 200");
    }
    close(fd);
}

int
main(int count, char **arguments)
{
    static char packet[65536];
    static int connections[MOST_CONNECTIONS];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = fread(packet, 1, sizeof(packet), stdin);
    int open = count == 4 ? atoi(arguments[2]) : 0;
    if (open < 1 || open > MOST_CONNECTIONS || strlen(arguments[1]) >= sizeof(address.sun_path) || !size) {
        fail("usage: load SOCKET CONNECTIONS MILLISECONDS <packet");
    }
    strcpy(address.sun_path, arguments[1]);
    long long answers = 0, began = now(), end = began + atoll(arguments[3]) * 1000000;
    for (int i = 0; i < open; i++) {
        connections[i] = ask(&address, packet, size);
    }
    /* Each time around, all connections: the clock is looked at once for many requests. */
    while (now() < end) {
        for (int i = 0; i < open; i++) {
            take(connections[i]);
            connections[i] = ask(&address, packet, size);
        }
        answers += open;
    }
    for (int i = 0; i < open; i++) {
        take(connections[i]);
    }
    /* What was asked last counts as well: the server has worked on it. */
    printf("%lld %lld\n", answers + open, now() - began);
    return 0;
}
