/* Whether the client of a request is still there, as `connection.sending` and `hosts.turn` have it. */

/* To look at a client costs a system call. One whose request has waited here for less is not looked at, */
#define LOOK_SECONDS 0.005

/* and in the backlog, where its request was sent so shortly ago. */
#define LOOK_AFTER_SENT_SECONDS 0.05

/* Where one client is gone, the requests that come next have waited as long: so many of them are looked at. */
#define LOOKS_AFTER_ONE 64

static double
wall_clock(void)
{
    struct timespec moment;
    clock_gettime(CLOCK_REALTIME, &moment);
    return (double)moment.tv_sec + (double)moment.tv_nsec * 1e-9;
}

/* How long ago the frontend has sent the request of a connection; NaN where that is not known. */
static double
seconds_in_queue(const module_state *state, const connection_fields *connection)
{
    PyObject *vars = connection->request == NULL ? NULL : PyObject_GetAttr(connection->request, state->texts[TEXT_VARS]);
    double age = vars != NULL && PyDict_CheckExact(vars) ? seconds_since_sent(state, vars, wall_clock()) : NAN;
    Py_XDECREF(vars);
    PyErr_Clear(); /* Python meets the same error */
    return age;
}

/* How long a request was on its way from the frontend, of which so many seconds are since its connection was accepted; -1
   where that is not known. */
static double
seconds_on_its_way(const module_state *state, const connection_fields *connection, double since_accepted)
{
    double age = seconds_in_queue(state, connection);
    return isnan(age) ? -1.0 : (age > since_accepted ? age - since_accepted : 0.0);
}

/* Record an answer that was sent whole; `Exchange._record` has the same for all others. */
static void
record_whole_answer(recorder *counts, const module_state *state, const connection_fields *connection, PyObject *request,
                    int row, int outcome, double started_at, double answer_began, long long body_bytes)
{
    double now = monotonic_now();
    const double seconds[TIMES] = {
        [TIME_FRONTEND] = seconds_on_its_way(state, connection, now - connection->accepted_at),
        [TIME_QUEUE] = started_at - connection->accepted_at,
        [TIME_APPLICATION] = answer_began - started_at,
        [TIME_SEND] = now - answer_began,
        [TIME_TOTAL] = now - connection->accepted_at,
    };
    record_request(counts, row, outcome, body_bytes_of(state, request), body_bytes, seconds);
}

/* Read the request out of the kernel, so that the end of this process resets nothing: `Connection.take_request`. -1 with
   errno. */
static int
take_request(connection_fields *connection, int fd)
{
    int taken = drop_peeked(fd, connection->peeked_bytes);
    connection->peeked_bytes = 0;
    return taken;
}

/* Whether the client has left. */
static int
has_left(const connection_fields *connection, int fd)
{
    if (connection->keeps_input_in_kernel) {
        return send_some(fd, "", 0, 0) < 0 && errno != EAGAIN && errno != EWOULDBLOCK;
    }
    struct pollfd watched = {.fd = fd, .events = POLLRDHUP};
    return poll(&watched, 1, 0) != 0;
}
