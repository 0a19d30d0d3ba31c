/* Files: how much there is of one, and its first bytes. */

/* As much of a file is read here at the most. */
#define MAX_BEGINNING_BYTES 16384

/* What is found out of a file. */
typedef struct {
    long long available;  /* from the offset on */
    ssize_t read;
} file_beginning;

/* Look at a file and read its beginning, without the interpreter's lock: both may wait for a disk, or for a server of
   NFS. 0 where the file is not plain, or can't be read. */
static int
read_beginning(int fd, long long offset, size_t whole, size_t first, char *place, file_beginning *found)
{
    struct stat status;
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || !status.st_size || offset < 0) {
        return 0;
    }
    found->available = status.st_size > offset ? status.st_size - offset : 0;
    size_t wanted = found->available <= (long long)whole ? (size_t)found->available : first;
    do {
        found->read = pread(fd, place, wanted, (off_t)offset);
    } while (found->read < 0 && errno == EINTR);
    return found->read == (ssize_t)wanted;
}

PyDoc_STRVAR(begin_file_doc,
"begin_file(descriptor, offset, whole_bytes, first_bytes, /)\n--\n\n"
"Tell how many bytes a regular file has from an offset on, and read all of them where they are no more than\n"
"`whole_bytes`, else the first ones.\n\n"
"None where the file has no size, has fewer bytes than it says, or can't be read.");

static PyObject *
begin_file(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    int fd;
    Py_ssize_t offset, whole, first;
    if (!check_count("begin_file", count, 4) || !as_int(args[0], &fd) || !as_size(args[1], &offset)
        || !as_size(args[2], &whole) || !as_size(args[3], &first))
    {
        return NULL;
    }
    if (whole < 0 || whole > MAX_BEGINNING_BYTES || first < 0 || first > MAX_BEGINNING_BYTES) {
        PyErr_SetString(PyExc_ValueError, "so much of a file is not read here");
        return NULL;
    }
    char place[MAX_BEGINNING_BYTES];
    file_beginning found;
    int is_plain;
    Py_BEGIN_ALLOW_THREADS
    is_plain = read_beginning(fd, offset, (size_t)whole, (size_t)first, place, &found);
    Py_END_ALLOW_THREADS
    if (!is_plain) {
        Py_RETURN_NONE;
    }
    return Py_BuildValue("(Ly#)", found.available, place, (Py_ssize_t)found.read);
}
