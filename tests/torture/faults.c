// Faults between a process and its disk, for LD_PRELOAD: at one call that changes a file, or at every one after it,
// the process dies or is told that the disk is full. Nothing is armed until `torture_arm` is called.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { KILL, TEAR, FULL };  // faults.py has the same order

static long at = LONG_MAX, passed = 0;
static int kind = KILL;

void torture_arm(int what, long call) {
  kind = what;
  at = call;
  passed = 0;
}

long torture_passed(void) { return passed; }

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

// Count a call; return whether it is one that the fault is for.
static int due(void) {
  return __atomic_fetch_add(&passed, 1, __ATOMIC_SEQ_CST) >= at;
}

// Before a call that is not a write: whether the disk has no room for what it makes.
static int refused(int makes) {
  if (kind == TEAR || !due()) return 0;
  if (kind == KILL) die();
  if (makes) errno = ENOSPC;
  return makes;
}

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

// What a run says goes to descriptors 1 and 2, and loses nothing.
static int is_file(int fd) {
  struct stat found;
  return fd > 2 && fstat(fd, &found) == 0 && S_ISREG(found.st_mode);
}

ssize_t write(int fd, const void *from, size_t count) {
  REAL(write);
  if (!is_file(fd) || !due()) return real(fd, from, count);
  if (kind == KILL) die();
  if ((kind == TEAR || passed == at + 1) && count > 1) {
    ssize_t written = real(fd, from, count / 2);
    if (kind == FULL) return written;
  }
  if (kind == TEAR) die();
  errno = ENOSPC;
  return -1;
}

static int opens(const char *path, int flags) {
  return flags & (O_CREAT | O_TRUNC) && refused(access(path, F_OK) != 0);
}

#define OPEN(name)                                                \
  int name(const char *path, int flags, ...) {                    \
    REAL(name);                                                   \
    va_list more;                                                 \
    va_start(more, flags);                                        \
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;     \
    va_end(more);                                                 \
    return opens(path, flags) ? -1 : real(path, flags, mode);     \
  }
OPEN(open)
OPEN(open64)

#define CHANGE(name, makes, parameters, ...)                      \
  int name parameters {                                           \
    REAL(name);                                                   \
    return refused(makes) ? -1 : real(__VA_ARGS__);               \
  }
CHANGE(mkdir, 1, (const char *path, mode_t mode), path, mode)
CHANGE(rename, 0, (const char *from, const char *to), from, to)
CHANGE(unlink, 0, (const char *path), path)
CHANGE(unlinkat, 0, (int folder, const char *path, int flags), folder, path, flags)
CHANGE(rmdir, 0, (const char *path), path)
CHANGE(ftruncate, 0, (int fd, off_t size), fd, size)
CHANGE(ftruncate64, 0, (int fd, off64_t size), fd, size)

// A kill loses nothing that was handed to the operating system, and nobody pulls the plug here.
int fsync(int fd) {
  (void)fd;
  refused(0);
  return 0;
}
