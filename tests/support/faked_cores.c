// Makes a process believe in another number of cores, and limits its threads as a pids limit does.
// FAKED_CORES: the number of cores. FAKED_THREAD_LIMIT: a thread beyond this number cannot be started.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int number_from(const char *name) {
    return atoi(getenv(name));
}

static int faked_cores(void) {
    return number_from("FAKED_CORES");
}

static int fill(size_t size, cpu_set_t *set) {
    if (size * 8 < (size_t)faked_cores()) return EINVAL;
    CPU_ZERO_S(size, set);
    for (int core = 0; core < faked_cores(); core++) CPU_SET_S(core, size, set);
    return 0;
}

int sched_getaffinity(pid_t process, size_t size, cpu_set_t *set) {
    errno = fill(size, set);
    return errno ? -1 : 0;
}

int pthread_getaffinity_np(pthread_t thread, size_t size, cpu_set_t *set) {
    return fill(size, set);
}

int sched_setaffinity(pid_t process, size_t size, const cpu_set_t *set) {
    return 0;
}

int pthread_setaffinity_np(pthread_t thread, size_t size, const cpu_set_t *set) {
    return 0;
}

int get_nprocs(void) {
    return faked_cores();
}

int get_nprocs_conf(void) {
    return faked_cores();
}

long sysconf(int name) {
    if (name == _SC_NPROCESSORS_ONLN || name == _SC_NPROCESSORS_CONF) return faked_cores();
    long (*real)(int) = dlsym(RTLD_NEXT, "sysconf");
    return real(name);
}

static int running_threads(void) {
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *entry; tasks && (entry = readdir(tasks));) count += entry->d_name[0] != '.';
    if (tasks) closedir(tasks);
    return count;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
    if (running_threads() >= number_from("FAKED_THREAD_LIMIT")) {
        fprintf(stderr, "a thread was refused: the limit is %s\n", getenv("FAKED_THREAD_LIMIT"));
        return EAGAIN;
    }
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
    return real(thread, attributes, run, argument);
}
