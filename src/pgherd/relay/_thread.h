/* A thread of C below Python: signals are not its own, and its stack is no larger than asked for. */

#ifndef PGHERD_THREAD_H
#define PGHERD_THREAD_H

#include <pthread.h>
#include <signal.h>
#include <stddef.h>

/* 0, or an error's number. */
static inline int thread_start(pthread_t *thread, void *(*run)(void *), void *given, size_t stack)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    int error = pthread_attr_init(&attributes);
    if (error)
        return error;
    pthread_attr_setstacksize(&attributes, stack);
    sigfillset(&all); /* signals are Python's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(thread, &attributes, run, given);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}

#endif
