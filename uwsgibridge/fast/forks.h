/* Whether this process is a copy of the one that something was made in. */

/* How often this process was forked from another one, counted in the child. */
static volatile sig_atomic_t forks;

static void
count_fork(void)
{
    forks++;
}
