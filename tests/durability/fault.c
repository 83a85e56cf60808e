/* Preloaded into a broker: writes and flushes of data.mdb fail as long as a file in FAULTS says so.
 *
 * full: the file cannot grow, as on a full disk; write: EIO; flush: EIO; meta: EIO for writes that are
 * flushed by themselves, which end a commit. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_data(int fd) {
	char link[64], path[4096];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t length = readlink(link, path, sizeof path - 1);
	return length > 9 && !memcmp(path + length - 9, "/data.mdb", 9);
}

static int fails(const char *fault) {
	char path[4096];
	snprintf(path, sizeof path, "%s/%s", getenv("FAULTS"), fault);
	return !access(path, F_OK);
}

/* -1 with errno if a write fails. */
static int allowed(int fd, off_t offset, size_t length) {
	if (!is_data(fd)) return 0;
	int is_meta = (fcntl(fd, F_GETFL) & O_DSYNC) != 0;
	if (fails(is_meta ? "meta" : "write")) {
		errno = EIO;
		return -1;
	}
	struct stat stat;
	if (!fails("full") || fstat(fd, &stat)) return 0;
	if (offset + (off_t)length > stat.st_size) {
		errno = ENOSPC;
		return -1;
	}
	return 0;
}

static size_t length_of(const struct iovec *parts, int count) {
	size_t total = 0;
	for (int at = 0; at < count; at++) total += parts[at].iov_len;
	return total;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
	if (allowed(fd, offset, length) < 0) return -1;
	return syscall(SYS_pwrite64, fd, bytes, length, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset) {
	return pwrite(fd, bytes, length, offset);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
	if (allowed(fd, offset, length_of(parts, count)) < 0) return -1;
	return syscall(SYS_pwritev, fd, parts, count, offset, 0);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) {
	return pwritev(fd, parts, count, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
	off_t offset = lseek(fd, 0, SEEK_CUR);
	if (allowed(fd, offset, length_of(parts, count)) < 0) return -1;
	return syscall(SYS_writev, fd, parts, count);
}

ssize_t write(int fd, const void *bytes, size_t length) {
	if (allowed(fd, lseek(fd, 0, SEEK_CUR), length) < 0) return -1;
	return syscall(SYS_write, fd, bytes, length);
}

int fdatasync(int fd) {
	if (is_data(fd) && fails("flush")) {
		errno = EIO;
		return -1;
	}
	return syscall(SYS_fdatasync, fd);
}

int fsync(int fd) {
	return is_data(fd) ? fdatasync(fd) : syscall(SYS_fsync, fd);
}
