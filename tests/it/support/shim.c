/*
 * A disk that fails on demand, for the tests: preloaded into the gate, it stands between RocksDB and the system.
 *
 * It touches only files under SHIM_DIR. What it does is told by the words of the file SHIM_CONTROL, which a test may
 * change at any time; they are listed in shim.rs. What has been synced is noted in SHIM_SYNCED, so that a test can
 * take away the rest, as a power cut would. Linux on 64 bits, glibc or musl.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum word { OPS, FILES, NTH, ACT, ERRNO, STICKY, MATCHED, ACTED, CLOCK_NS, LIE, DELAY_US, WORDS };
enum op { WRITE = 1, SYNC = 2, CREATE = 4, RENAME = 8, UNLINK = 16, TRUNCATE = 32 };
enum file { WAL = 1, MANIFEST = 2, SST = 4, OTHER = 8 };
enum act { NONE, FAIL, HALF, HALF_THEN_FAIL, DO_THEN_FAIL, KILL_BEFORE, KILL_HALFWAY, KILL_AFTER };

static volatile int64_t *control;
static const char *dir;
static int synced = -1;
static int owed; /* the error that the next write gets, after a half one */

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SHIM_CONTROL"), *note = getenv("SHIM_SYNCED");
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *words = mmap(NULL, WORDS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (note) synced = (int)syscall(SYS_openat, AT_FDCWD, note, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    dir = getenv("SHIM_DIR");
    if (words != MAP_FAILED && dir) control = words;
}

static void end(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static int is_mine(const char *path) { return control && strncmp(path, dir, strlen(dir)) == 0; }

/* The path of an open file, if it lies under SHIM_DIR. */
static int path_of(int fd, char *path) {
    char link[64];
    if (!control) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, 4095);
    if (length < 0) return 0;
    path[length] = 0;
    return is_mine(path);
}

static int ends_in(const char *path, const char *end) {
    size_t length = strlen(path), tail = strlen(end);
    return length >= tail && strcmp(path + length - tail, end) == 0;
}

static int file_of(const char *path) {
    if (ends_in(path, ".log")) return WAL;
    if (strstr(path, "/MANIFEST-")) return MANIFEST;
    return ends_in(path, ".sst") ? SST : OTHER;
}

/* RocksDB's own diary is nobody's data. */
static int is_diary(const char *path) { return ends_in(path, "/LOG") || strstr(path, "/LOG.old"); }

/* What is to be done about this call. */
static int act_on(int op, const char *path) {
    if (is_diary(path) || !(control[OPS] & op) || !(control[FILES] & file_of(path))) return NONE;
    int64_t at = __atomic_add_fetch(&control[MATCHED], 1, __ATOMIC_SEQ_CST), nth = control[NTH];
    if (nth == 0 || at < nth || (at > nth && !control[STICKY])) return NONE;
    __atomic_add_fetch(&control[ACTED], 1, __ATOMIC_SEQ_CST);
    return (int)control[ACT];
}

/* The acts that come before a call; whether it has failed. */
static int fails_before(int act) {
    if (act == KILL_BEFORE) end();
    if (act == FAIL) errno = (int)control[ERRNO];
    return act == FAIL;
}

/* The acts that come after; the call's result. */
static int64_t after(int act, int64_t result) {
    if (act == KILL_AFTER || act == KILL_HALFWAY) end();
    if (act != DO_THEN_FAIL) return result;
    errno = (int)control[ERRNO];
    return -1;
}

static ssize_t write_through(int fd, const void *bytes, size_t count, off_t at, int placed) {
    char path[4096];
    ssize_t (*plain)(int, const void *, size_t) = REAL(write);
    ssize_t (*place)(int, const void *, size_t, off_t) = REAL(pwrite);
#define PUT(n) (placed ? place(fd, bytes, n, at) : plain(fd, bytes, n))
    int saved = errno;
    if (!path_of(fd, path)) {
        errno = saved;
        return PUT(count);
    }
    errno = saved;
    int owing = is_diary(path) ? 0 : __atomic_exchange_n(&owed, 0, __ATOMIC_SEQ_CST);
    if (owing) {
        errno = owing;
        return -1;
    }
    int act = act_on(WRITE, path);
    if (fails_before(act)) return -1;
    size_t part = count;
    if (act == HALF || act == HALF_THEN_FAIL || act == KILL_HALFWAY) part = (count + 1) / 2;
    if (act == HALF_THEN_FAIL) owed = (int)control[ERRNO];
    return after(act, PUT(part));
}

ssize_t write(int fd, const void *bytes, size_t count) { return write_through(fd, bytes, count, 0, 0); }

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    return write_through(fd, bytes, count, at, 1);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t at) {
    return write_through(fd, bytes, count, at, 1);
}

static void note(const char *word, int64_t size, const char *path) {
    char line[4200];
    int length = snprintf(line, sizeof line, "%s %lld %s\n", word, (long long)size, path);
    if (synced >= 0) syscall(SYS_write, synced, line, (size_t)length);
}

static int sync_through(int fd, int (*real)(int)) {
    char path[4096];
    struct stat status;
    int saved = errno;
    if (!path_of(fd, path)) {
        errno = saved;
        return real(fd);
    }
    errno = saved;
    int act = act_on(SYNC, path);
    if (fails_before(act)) return -1;
    if (control[DELAY_US]) usleep((useconds_t)control[DELAY_US]);
    if (control[LIE]) return (int)after(act, 0);
    int64_t size = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) ? (int64_t)status.st_size : -1;
    int result = real(fd);
    if (result == 0 && size >= 0) note("synced", size, path);
    return (int)after(act, result);
}

int fsync(int fd) { return sync_through(fd, REAL(fsync)); }
int fdatasync(int fd) { return sync_through(fd, REAL(fdatasync)); }

int ftruncate(int fd, off_t size) {
    char path[4096];
    int act = path_of(fd, path) ? act_on(TRUNCATE, path) : NONE;
    if (fails_before(act)) return -1;
    return (int)after(act, REAL(ftruncate)(fd, size));
}

static int open_through(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode) {
    if (!(flags & O_CREAT) || !is_mine(path) || is_diary(path)) return real(path, flags, mode);
    int act = act_on(CREATE, path);
    if (fails_before(act)) return -1;
    int fd = real(path, flags, mode);
    if (fd >= 0 && (flags & O_TRUNC)) note("created", 0, path);
    return (int)after(act, fd);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    return open_through(REAL(open), path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    return open_through(REAL(open64), path, flags, mode);
}

int rename(const char *from, const char *to) {
    int act = is_mine(to) ? act_on(RENAME, to) : NONE;
    if (fails_before(act)) return -1;
    int result = REAL(rename)(from, to);
    if (result == 0 && is_mine(to) && !is_diary(to)) {
        struct stat status;
        note("renamed", 0, from);
        if (stat(to, &status) == 0) note("synced", status.st_size, to);
    }
    return (int)after(act, result);
}

int unlink(const char *path) {
    int act = is_mine(path) ? act_on(UNLINK, path) : NONE;
    if (fails_before(act)) return -1;
    return (int)after(act, REAL(unlink)(path));
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && control && clock == CLOCK_REALTIME && control[CLOCK_NS]) {
        int64_t ns = (int64_t)time->tv_sec * 1000000000 + time->tv_nsec + control[CLOCK_NS];
        time->tv_sec = ns / 1000000000;
        time->tv_nsec = ns % 1000000000;
    }
    return result;
}
