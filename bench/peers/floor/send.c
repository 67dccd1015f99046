/* The loop of the send floor in C: one ready frame to many sockets. Built by bench/adapters.py where there is a compiler. */

#include <stddef.h>
#include <sys/socket.h>

/* Send `size` bytes to each of `count` sockets; says how many took them all. */
int broadcast(const int *sockets, int count, const char *frame, size_t size) {
    int done = 0;
    for (int i = 0; i < count; i++) {
        done += send(sockets[i], frame, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size;
    }
    return done;
}
