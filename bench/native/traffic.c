// SPDX-License-Identifier: Apache-2.0
/* Traffic between two network namespaces, measured: both ends in one program, each in a process of
 * its own, on one CPU.
 *
 *	traffic MODE CLIENT_NETNS SERVER_NETNS ADDRESS PORT SECONDS CPU KSOFTIRQD [FLOWS]
 *
 *	rr      one TCP connection, a byte there, a byte back, and again (netperf's TCP_RR)
 *	crr     the same with a new connection for each, which the server closes first (TCP_CRR)
 *	stream  one TCP connection, as much as it takes in writes of 128 KiB (TCP_STREAM)
 *	flows   UDP, a byte there and back on one of FLOWS flows, drawn anew; to PORT .. PORT + 99
 *
 * The measured time begins a moment after traffic does (for `flows`, once each flow has been used);
 * then the line "measuring" comes out, and in the end one JSON object. KSOFTIRQD is the process
 * number of that kernel thread of the CPU: its time counts as the traffic's. A step that fails is
 * named on stderr, and the exit code is 1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP_NS    100000000ULL
#define WRITE_BYTES   (128 * 1024)
#define MOST_SAMPLES  (4 * 1024 * 1024)
#define SERVER_PORTS  100
#define GRACE_SECONDS 20

struct run {
	struct sockaddr_in address;
	uint64_t duration_ns;
	int flows;
	clockid_t workers[3];        /* CPU clocks of the client, the server, ksoftirqd */
	volatile uint64_t *received; /* bytes of a stream; shared by both processes */
	uint32_t *latency_ns;        /* MOST_SAMPLES */
	uint64_t started_ns;
	uint64_t ended_ns;
	uint64_t count; /* transactions, or bytes of a stream */
	uint64_t cpu_before_ns;
	uint64_t cpu_after_ns;
};

static void fail(const char *step)
{
	fprintf(stderr, "traffic: %s: %s\n", step, strerror(errno));
	exit(1);
}

static int checked(int result, const char *step)
{
	if (result < 0)
		fail(step);
	return result;
}

static void give_up(int signal)
{
	static const char reason[] = "traffic: it hangs\n";

	(void)signal;
	if (write(STDERR_FILENO, reason, sizeof(reason) - 1))
		_exit(1);
	_exit(1);
}

static uint64_t read_clock(clockid_t clock)
{
	struct timespec now;

	checked(clock_gettime(clock, &now), "read a clock");
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

static uint64_t now_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

/* CPU time of all that works for the traffic. */
static uint64_t cpu_ns(const struct run *run)
{
	return read_clock(run->workers[0]) + read_clock(run->workers[1]) + read_clock(run->workers[2]);
}

static clockid_t clock_of(pid_t process)
{
	clockid_t clock;

	errno = clock_getcpuclockid(process, &clock);
	if (errno)
		fail("CPU clock of a process");
	return clock;
}

static void enter(const char *netns, int cpu)
{
	int fd = checked(open(netns, O_RDONLY | O_CLOEXEC), netns);
	cpu_set_t only;

	checked(setns(fd, CLONE_NEWNET), netns);
	close(fd);
	CPU_ZERO(&only);
	CPU_SET(cpu, &only);
	checked(sched_setaffinity(0, sizeof(only), &only), "pin to a CPU");
	setpriority(PRIO_PROCESS, 0, -20);
}

static int tcp_socket(void)
{
	int on = 1, fd = checked(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	return fd;
}

static int tcp_connect(const struct run *run)
{
	struct timeval patience = {.tv_sec = 2};
	int fd = tcp_socket();

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	checked(connect(fd, (const void *)&run->address, sizeof(run->address)), "connect");
	return fd;
}

/* Begin to count once the warm-up is over; tells whether to go on. */
static int goes_on(struct run *run, uint64_t now)
{
	if (!run->started_ns) {
		run->started_ns = now + WARM_UP_NS;
	} else if (now >= run->started_ns && !run->cpu_before_ns) {
		checked(write(STDOUT_FILENO, "measuring\n", 10), "say so");
		run->cpu_before_ns = cpu_ns(run);
		run->started_ns = now_ns();
		run->count = 0;
	} else if (run->cpu_before_ns && now >= run->started_ns + run->duration_ns) {
		run->ended_ns = now;
		run->cpu_after_ns = cpu_ns(run);
		return 0;
	}
	return 1;
}

static void add_sample(struct run *run, uint64_t latency)
{
	if (run->count < MOST_SAMPLES)
		run->latency_ns[run->count] = latency;
	run->count++;
}

/* servers: run until they are killed */

static void serve_connections(int listener)
{
	char byte;

	for (;;) {
		int fd = checked(accept(listener, NULL, NULL), "accept");
		int on = 1;

		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		while (read(fd, &byte, 1) == 1 && write(fd, &byte, 1) == 1)
			;
		close(fd);
	}
}

static void serve_requests(int listener)
{
	char byte;

	for (;;) {
		int fd = checked(accept(listener, NULL, NULL), "accept");

		if (read(fd, &byte, 1) == 1 && write(fd, &byte, 1) != 1)
			fail("answer");
		close(fd);
	}
}

static void serve_stream(int listener, volatile uint64_t *received)
{
	static char buffer[WRITE_BYTES];
	int fd = checked(accept(listener, NULL, NULL), "accept");
	ssize_t some;

	while ((some = read(fd, buffer, sizeof(buffer))) > 0)
		*received += some;
}

static void serve_flows(const struct run *run, int ready)
{
	int poll = checked(epoll_create1(EPOLL_CLOEXEC), "epoll");

	for (int i = 0; i < SERVER_PORTS; i++) {
		struct sockaddr_in address = {.sin_family = AF_INET,
					      .sin_port = htons(ntohs(run->address.sin_port) + i)};
		int fd = checked(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
		struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

		checked(bind(fd, (void *)&address, sizeof(address)), "bind");
		checked(epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event), "epoll");
	}
	checked(write(ready, "r", 1), "say ready");
	for (;;) {
		struct sockaddr_in from;
		socklen_t length = sizeof(from);
		struct epoll_event event;
		char byte;

		if (epoll_wait(poll, &event, 1, -1) != 1)
			fail("epoll");
		checked(recvfrom(event.data.fd, &byte, 1, 0, (void *)&from, &length), "receive");
		checked(sendto(event.data.fd, &byte, 1, 0, (void *)&from, length), "answer");
	}
}

static void serve(const char *mode, const struct run *run, int ready)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = run->address.sin_port};
	int listener;

	if (!strcmp(mode, "flows"))
		serve_flows(run, ready);
	listener = tcp_socket();
	checked(bind(listener, (void *)&address, sizeof(address)), "bind");
	checked(listen(listener, 128), "listen");
	checked(write(ready, "r", 1), "say ready");
	if (!strcmp(mode, "rr"))
		serve_connections(listener);
	if (!strcmp(mode, "crr"))
		serve_requests(listener);
	serve_stream(listener, run->received);
	pause();
}

/* clients */

static uint64_t exchange(int fd, uint64_t before)
{
	uint64_t now;
	char byte = 'c';

	if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
		fail("request and response");
	now = now_ns();
	return now - before;
}

static void ask_on_one(struct run *run)
{
	int fd = tcp_connect(run);
	uint64_t now = now_ns();

	while (goes_on(run, now)) {
		uint64_t before = now_ns(), latency = exchange(fd, before);

		now = before + latency;
		add_sample(run, latency);
	}
}

static void ask_on_many(struct run *run)
{
	uint64_t now = now_ns();

	while (goes_on(run, now)) {
		uint64_t before = now_ns(), latency;
		char byte;
		int fd = tcp_connect(run);

		latency = exchange(fd, before);
		if (read(fd, &byte, 1) != 0)
			fail("wait for the end of a connection");
		close(fd);
		now = before + latency;
		add_sample(run, latency);
	}
}

static void send_stream(struct run *run)
{
	static char buffer[WRITE_BYTES];
	uint64_t at_start = 0;
	int fd = tcp_connect(run);

	while (goes_on(run, now_ns())) {
		if (run->cpu_before_ns && !at_start)
			at_start = *run->received;
		checked(write(fd, buffer, sizeof(buffer)), "send");
	}
	run->count = *run->received - at_start;
}

static uint64_t ask_flow(const struct run *run, const int *sockets, int flow)
{
	struct sockaddr_in to = run->address;
	int fd = sockets[flow / SERVER_PORTS];
	uint64_t before = now_ns();
	char byte = 'f';

	to.sin_port = htons(ntohs(to.sin_port) + flow % SERVER_PORTS);
	checked(sendto(fd, &byte, 1, 0, (void *)&to, sizeof(to)), "send");
	checked(recv(fd, &byte, 1, 0), "wait for an answer");
	return now_ns() - before;
}

static void ask_flows(struct run *run)
{
	int count = (run->flows + SERVER_PORTS - 1) / SERVER_PORTS;
	int *sockets = calloc(count, sizeof(int));
	struct timeval timeout = {.tv_sec = 1};
	uint32_t random = 2463534242;

	for (int i = 0; i < count; i++) {
		sockets[i] = checked(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
		setsockopt(sockets[i], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	}
	for (int flow = 0; flow < run->flows; flow++)
		ask_flow(run, sockets, flow);
	while (goes_on(run, now_ns())) {
		random ^= random << 13; /* xorshift32 */
		random ^= random >> 17;
		random ^= random << 5;
		add_sample(run, ask_flow(run, sockets, random % run->flows));
	}
}

static void ask(const char *mode, struct run *run)
{
	if (!strcmp(mode, "rr"))
		ask_on_one(run);
	else if (!strcmp(mode, "crr"))
		ask_on_many(run);
	else if (!strcmp(mode, "stream"))
		send_stream(run);
	else
		ask_flows(run);
}

static int by_size(const void *one, const void *other)
{
	uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;

	return (a > b) - (a < b);
}

static void print(const char *mode, struct run *run)
{
	size_t samples = run->count < MOST_SAMPLES ? run->count : MOST_SAMPLES;
	uint32_t middle = 0, late = 0;

	if (strcmp(mode, "stream") && samples) {
		qsort(run->latency_ns, samples, sizeof(*run->latency_ns), by_size);
		middle = run->latency_ns[samples / 2];
		late = run->latency_ns[samples * 99 / 100];
	}
	printf("{\"count\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"p50_ns\": %u, \"p99_ns\": %u}\n",
	       (unsigned long long)run->count, (run->ended_ns - run->started_ns) / 1e9,
	       (run->cpu_after_ns - run->cpu_before_ns) / 1e9, middle, late);
}

static void *shared(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		fail("mmap");
	return memory;
}

static pid_t start_server(const char *mode, const struct run *run, const char *netns, int cpu)
{
	int pipes[2];
	pid_t child;
	char byte;

	checked(pipe2(pipes, O_CLOEXEC), "pipe");
	child = checked(fork(), "fork");
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		enter(netns, cpu);
		serve(mode, run, pipes[1]);
		exit(0);
	}
	close(pipes[1]);
	if (read(pipes[0], &byte, 1) != 1)
		exit(1); /* the server said why */
	close(pipes[0]);
	return child;
}

int main(int count, char **argument)
{
	struct run run = {.address.sin_family = AF_INET};
	const char *mode = count > 1 ? argument[1] : "";
	double seconds;
	pid_t server;
	int cpu;

	if (count < 9 ||
	    (strcmp(mode, "rr") && strcmp(mode, "crr") && strcmp(mode, "stream") && strcmp(mode, "flows"))) {
		fprintf(stderr, "usage: traffic rr|crr|stream|flows CLIENT_NETNS SERVER_NETNS ADDRESS PORT SECONDS "
				"CPU KSOFTIRQD [FLOWS]\n");
		return 2;
	}
	seconds = atof(argument[6]);
	cpu = atoi(argument[7]);
	run.address.sin_port = htons(atoi(argument[5]));
	run.duration_ns = seconds * 1e9;
	run.flows = count > 9 ? atoi(argument[9]) : SERVER_PORTS;
	if (inet_pton(AF_INET, argument[4], &run.address.sin_addr) != 1 || seconds <= 0 || run.flows < 1) {
		fprintf(stderr, "traffic: ADDRESS, SECONDS or FLOWS makes no sense\n");
		return 2;
	}
	run.received = shared(sizeof(*run.received));
	run.latency_ns = shared(MOST_SAMPLES * sizeof(*run.latency_ns));
	server = start_server(mode, &run, argument[3], cpu);
	run.workers[0] = CLOCK_PROCESS_CPUTIME_ID;
	run.workers[1] = clock_of(server);
	run.workers[2] = clock_of(atoi(argument[8]));
	enter(argument[2], cpu);
	signal(SIGALRM, give_up);
	alarm(GRACE_SECONDS + 2 * (unsigned int)seconds);
	ask(mode, &run);
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	print(mode, &run);
	return 0;
}
