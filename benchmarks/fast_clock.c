/* Preloaded into a process, lets its time go by SPEED times as fast: what it reads from clocks, and for how long it waits.
 * BEGAN_REALTIME and BEGAN_MONOTONIC are when both clocks began to run fast, in nanoseconds. All three are given to the
 * compiler, since servers are started with an environment of their own. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define REAL(name, type, ...) static type (*real)(__VA_ARGS__); if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static const long long speed = SPEED, began_realtime = BEGAN_REALTIME, began_monotonic = BEGAN_MONOTONIC;

static long long ns(const struct timespec *t) { return t->tv_sec * SECOND + t->tv_nsec; }
static struct timespec spec(long long t) { return (struct timespec){t / SECOND, t % SECOND}; }
static long long origin(clockid_t clock) {
    switch (clock) {
    case CLOCK_REALTIME: case CLOCK_REALTIME_COARSE: return began_realtime;
    case CLOCK_MONOTONIC: case CLOCK_MONOTONIC_COARSE: case CLOCK_MONOTONIC_RAW: case CLOCK_BOOTTIME: return began_monotonic;
    default: return -1;
    }
}
/* A moment of the fast clock as the machine's clock has it. */
static struct timespec slow(clockid_t clock, const struct timespec *t) {
    long long from = origin(clock);
    return from < 0 || ns(t) < from ? *t : spec(from + (ns(t) - from) / speed);
}
/* A condition does not say which clock it waits by; nobody waits for years. */
static clockid_t clock_of(const struct timespec *t) { return ns(t) > began_realtime / 2 ? CLOCK_REALTIME : CLOCK_MONOTONIC; }
static int milliseconds(int t) { return t > 0 ? (int)((t + speed - 1) / speed) : t; }
static struct timespec shorter(const struct timespec *t) { return spec(ns(t) / speed); }
static struct timeval briefer(const struct timeval *t) {
    long long us = (t->tv_sec * 1000000LL + t->tv_usec + speed - 1) / speed;
    return (struct timeval){us / 1000000, us % 1000000};
}
static struct timeval longer(const struct timeval *t) {
    long long us = (t->tv_sec * 1000000LL + t->tv_usec) * speed;
    return (struct timeval){us / 1000000, us % 1000000};
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(clock_gettime, int, clockid_t, struct timespec *);
    int answer = real(clock, now);
    long long from = origin(clock);
    if (answer == 0 && from >= 0 && ns(now) > from) *now = spec(from + (ns(now) - from) * speed);
    return answer;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *t, struct timespec *left) {
    REAL(clock_nanosleep, int, clockid_t, int, const struct timespec *, struct timespec *);
    struct timespec wait = flags & TIMER_ABSTIME ? slow(clock, t) : shorter(t);
    int answer = real(clock, flags, &wait, left);
    if (left && answer == EINTR && !(flags & TIMER_ABSTIME)) *left = spec(ns(left) * speed);
    return answer;
}
int nanosleep(const struct timespec *t, struct timespec *left) {
    int answer = clock_nanosleep(CLOCK_MONOTONIC, 0, t, left);
    if (answer) errno = answer;
    return answer ? -1 : 0;
}
int usleep(useconds_t us) {
    struct timespec t = spec(us * 1000LL);
    return nanosleep(&t, NULL);
}
unsigned sleep(unsigned seconds) {
    struct timespec t = {seconds, 0}, left = {0, 0};
    return nanosleep(&t, &left) ? (unsigned)left.tv_sec : 0;
}
int poll(struct pollfd *fds, nfds_t count, int timeout) {
    REAL(poll, int, struct pollfd *, nfds_t, int);
    return real(fds, count, milliseconds(timeout));
}
int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *t, const sigset_t *mask) {
    REAL(ppoll, int, struct pollfd *, nfds_t, const struct timespec *, const sigset_t *);
    struct timespec wait = t ? shorter(t) : (struct timespec){0, 0};
    return real(fds, count, t ? &wait : NULL, mask);
}
int epoll_wait(int fd, struct epoll_event *events, int most, int timeout) {
    REAL(epoll_wait, int, int, struct epoll_event *, int, int);
    return real(fd, events, most, milliseconds(timeout));
}
int epoll_pwait(int fd, struct epoll_event *events, int most, int timeout, const sigset_t *mask) {
    REAL(epoll_pwait, int, int, struct epoll_event *, int, int, const sigset_t *);
    return real(fd, events, most, milliseconds(timeout), mask);
}
int select(int count, fd_set *restrict in, fd_set *restrict out, fd_set *restrict other, struct timeval *restrict t) {
    REAL(select, int, int, fd_set *, fd_set *, fd_set *, struct timeval *);
    struct timeval wait = t ? briefer(t) : (struct timeval){0, 0};
    return real(count, in, out, other, t ? &wait : NULL);
}
int sem_clockwait(sem_t *restrict sem, clockid_t clock, const struct timespec *restrict t) {
    REAL(sem_clockwait, int, sem_t *, clockid_t, const struct timespec *);
    struct timespec until = slow(clock, t);
    return real(sem, clock, &until);
}
int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict t) {
    return sem_clockwait(sem, CLOCK_REALTIME, t);
}
int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex, const struct timespec *restrict t) {
    REAL(pthread_cond_timedwait, int, pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    struct timespec until = slow(clock_of(t), t);
    return real(cond, mutex, &until);
}
int pthread_cond_clockwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex, clockid_t clock, const struct timespec *restrict t) {
    REAL(pthread_cond_clockwait, int, pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
    struct timespec until = slow(clock, t);
    return real(cond, mutex, clock, &until);
}
int sigtimedwait(const sigset_t *restrict set, siginfo_t *restrict info, const struct timespec *restrict t) {
    REAL(sigtimedwait, int, const sigset_t *, siginfo_t *, const struct timespec *);
    struct timespec wait = t ? shorter(t) : (struct timespec){0, 0};
    return real(set, info, t ? &wait : NULL);
}
int setitimer(__itimer_which_t which, const struct itimerval *restrict t, struct itimerval *restrict old) {
    REAL(setitimer, int, __itimer_which_t, const struct itimerval *, struct itimerval *);
    struct itimerval wait = {{0, 0}, {0, 0}};
    if (t) wait = (struct itimerval){briefer(&t->it_interval), briefer(&t->it_value)};
    int answer = real(which, t ? &wait : NULL, old);
    if (answer == 0 && old) *old = (struct itimerval){longer(&old->it_interval), longer(&old->it_value)};
    return answer;
}
