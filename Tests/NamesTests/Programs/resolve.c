// What a C library makes of a name: resolve NAME... prints each address of each family, resolve -r ADDRESS the address's name.
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static int names(const char *name) {
    struct addrinfo hints, *found, *each;
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    int code = getaddrinfo(name, NULL, &hints, &found);
    if (code) {
        printf("%s: %s\n", name, code == EAI_NONAME ? "no name" : code == EAI_AGAIN ? "try again" : gai_strerror(code));
        return 1;
    }
    for (each = found; each; each = each->ai_next) {
        char text[INET6_ADDRSTRLEN];
        void *address = each->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)each->ai_addr)->sin_addr
                                                   : (void *)&((struct sockaddr_in6 *)each->ai_addr)->sin6_addr;
        puts(inet_ntop(each->ai_family, address, text, sizeof text));
    }
    freeaddrinfo(found);
    return 0;
}

static int reverse(const char *text) {
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    char name[256];
    int is4 = inet_pton(AF_INET, text, &v4.sin_addr) == 1;
    if (!is4 && inet_pton(AF_INET6, text, &v6.sin6_addr) != 1) return 2;
    int code = is4 ? getnameinfo((void *)&v4, sizeof v4, name, sizeof name, NULL, 0, NI_NAMEREQD)
                   : getnameinfo((void *)&v6, sizeof v6, name, sizeof name, NULL, 0, NI_NAMEREQD);
    puts(code == 0 ? name : code == EAI_NONAME ? "no name" : gai_strerror(code));
    return code != 0;
}

int main(int count, char **arguments) {
    int result = 0;
    if (count == 3 && !strcmp(arguments[1], "-r")) return reverse(arguments[2]);
    for (int index = 1; index < count; index++) result |= names(arguments[index]);
    return result;
}
