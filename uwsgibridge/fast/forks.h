/* Whether this process is a copy of the one that something was made in. */

/* How often this process was forked from another one, counted in the child. */
static volatile sig_atomic_t forks;

/* The number of this process: getpid(2) is a system call each time. */
static pid_t own_number;

static void
count_fork(void)
{
    forks++;
    own_number = getpid();
}
