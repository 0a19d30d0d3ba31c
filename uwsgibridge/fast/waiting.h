/* Sends more than fits at once: waits for room, without the interpreter's lock and without Python in between. */

/* How large a piece is at the most that has to be taken in its time, as in `hosts/wsgi/answer.py`. */
#define WAITED_PIECE_BYTES 262144

/* What `connection/sending.py` gives a unix socket that does not take an answer at once. */
#define LARGE_SEND_BUFFER_BYTES 524288

/* How an attempt to send ended that may wait. */
typedef enum {
    SENT_ALL,
    SENT_SOME,  /* and the next send tells why there was no more */
    SENT_TOO_SLOWLY,
} sending_end;

/* Have the kernel hold more of an answer, unless it does so already: a unix socket is writable again only when three quarters
   of its buffer are free. Where that fails, the next call for the socket tells what is wrong with it. */
static void
enlarge_send_buffer(int fd)
{
    int size = 0;
    socklen_t length = sizeof(size);
    if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &length) == 0 && size < 2 * LARGE_SEND_BUFFER_BYTES) {
        size = LARGE_SEND_BUFFER_BYTES;
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    }
}

static long long
monotonic_milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Wait until the descriptor takes more; 0 where that takes until after the end. */
static int
wait_for_room(int fd, long long end)
{
    struct pollfd watched = {.fd = fd, .events = POLLOUT};
    for (;;) {
        long long left = end - monotonic_milliseconds();
        int ready = poll(&watched, 1, left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left);
        if (ready > 0) {
            return 1;
        }
        if ((ready == 0 && left <= 0) || (ready < 0 && errno != EINTR)) {
            return 0;
        }
    }
}

/* Send all of the data; each piece of it may take so many milliseconds. `*sent` gets how many bytes went out. */
static sending_end
send_all(int fd, const char *data, size_t size, long long milliseconds, size_t *sent)
{
    *sent = 0;
    while (*sent < size) {
        size_t end_of_piece = size - *sent < WAITED_PIECE_BYTES ? size : *sent + WAITED_PIECE_BYTES;
        long long end = monotonic_milliseconds() + milliseconds;
        while (*sent < end_of_piece) {
            ssize_t some = send(fd, data + *sent, size - *sent, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (some >= 0) {
                *sent += some;
            }
            else if (errno == EAGAIN || errno == EWOULDBLOCK) {
                if (!wait_for_room(fd, end)) {
                    return SENT_TOO_SLOWLY;
                }
            }
            else if (errno != EINTR) {
                return SENT_SOME;
            }
        }
    }
    return SENT_ALL;
}
