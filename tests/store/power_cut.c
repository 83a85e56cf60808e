/* Preloaded into a process that writes a store: records every write and flush of data.mdb, and what
 * the process says on standard output, in their order.
 *
 * A record is a kind (W write, S write that is flushed itself, F flush, A text), the offset and the
 * length as 8 bytes each in the order of the machine, and the bytes. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;

static void record(char kind, uint64_t offset, const void *bytes, uint64_t length) {
	if (log_fd < 0)
		log_fd = open(getenv("POWER_CUT_LOG"), O_WRONLY | O_CREAT | O_APPEND, 0600);
	syscall(SYS_write, log_fd, &kind, 1);
	syscall(SYS_write, log_fd, &offset, 8);
	syscall(SYS_write, log_fd, &length, 8);
	if (length)
		syscall(SYS_write, log_fd, bytes, length);
}

static int is_data(int fd) {
	char link[64], path[4096];
	strcpy(link, "/proc/self/fd/");
	char digits[12];
	int count = 0, value = fd;
	do digits[count++] = '0' + value % 10; while (value /= 10);
	char *end = link + strlen(link);
	while (count) *end++ = digits[--count];
	*end = 0;
	ssize_t length = readlink(link, path, sizeof path - 1);
	return length > 9 && !memcmp(path + length - 9, "/data.mdb", 9);
}

static char kind_of(int fd) {
	return fcntl(fd, F_GETFL) & O_DSYNC ? 'S' : 'W';
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
	pthread_mutex_lock(&lock);
	ssize_t written = syscall(SYS_pwrite64, fd, bytes, length, offset);
	if (written > 0 && is_data(fd))
		record(kind_of(fd), offset, bytes, written);
	pthread_mutex_unlock(&lock);
	return written;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset) {
	return pwrite(fd, bytes, length, offset);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
	ssize_t total = 0;
	for (int at = 0; at < count; at++) {
		ssize_t written = pwrite(fd, parts[at].iov_base, parts[at].iov_len, offset + total);
		if (written < 0) return total ? total : -1;
		total += written;
		if ((size_t)written < parts[at].iov_len) break;
	}
	return total;
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) {
	return pwritev(fd, parts, count, offset);
}

ssize_t write(int fd, const void *bytes, size_t length) {
	pthread_mutex_lock(&lock);
	ssize_t written = syscall(SYS_write, fd, bytes, length);
	if (written > 0 && fd == 1) record('A', 0, bytes, written);
	if (written > 0 && fd != 1 && is_data(fd))
		record(kind_of(fd), lseek(fd, 0, SEEK_CUR) - written, bytes, written);
	pthread_mutex_unlock(&lock);
	return written;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
	ssize_t total = 0;
	for (int at = 0; at < count; at++) {
		ssize_t written = write(fd, parts[at].iov_base, parts[at].iov_len);
		if (written < 0) return total ? total : -1;
		total += written;
		if ((size_t)written < parts[at].iov_len) break;
	}
	return total;
}

int fdatasync(int fd) {
	pthread_mutex_lock(&lock);
	int result = syscall(SYS_fdatasync, fd);
	if (!result && is_data(fd)) record('F', 0, NULL, 0);
	pthread_mutex_unlock(&lock);
	return result;
}

int fsync(int fd) {
	pthread_mutex_lock(&lock);
	int result = syscall(SYS_fsync, fd);
	if (!result && is_data(fd)) record('F', 0, NULL, 0);
	pthread_mutex_unlock(&lock);
	return result;
}
