/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * guestctl - what a shell in the guest cannot do, with the exact errno.
 *
 * Every command prints one JSON object on one line,
 *
 *	{"op": "unload", "target": "kvm", ..., "errno": 16, "errno_name": "EBUSY"}
 *
 * and exits 0 when errno is 0, else 1; wrong usage exits 2. "vm --hold" prints
 * a second object when the VM has been closed. docs/guest-image.md lists all
 * commands with their fields.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define EXIT_USAGE	2
#define LINE_SIZE	8192	/* /proc/modules and modules.dep have long lines */
#define TEXT_SIZE	512	/* one sysfs value */
#define MAX_CHAIN	32	/* a module and its dependencies */
#define MAX_VCPUS	64
#define MSR_EFER	0xc0000080U
#define CPUID_1_ECX_VMX		(1U << 5)
#define CPUID_80000001_ECX_SVM	(1U << 2)

/* One JSON object per line; the caller gives the fields in order. */

static bool json_first;

static void json_string(const char *text)
{
	putchar('"');
	for (; *text; text++) {
		unsigned char c = *text;

		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

static void json_key(const char *key)
{
	if (!json_first)
		fputs(", ", stdout);
	json_first = false;
	json_string(key);
	fputs(": ", stdout);
}

static void json_text(const char *key, const char *value)
{
	json_key(key);
	json_string(value);
}

__attribute__((format(printf, 2, 3)))
static void json_raw(const char *key, const char *format, ...)
{
	va_list args;

	json_key(key);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
}

static void json_open(const char *key, char bracket)
{
	json_key(key);
	putchar(bracket);
	json_first = true;
}

static void json_close(char bracket)
{
	putchar(bracket);
	json_first = false;
}

/* An array's item: like a field, without its key. */
static void json_item(const char *value)
{
	if (!json_first)
		fputs(", ", stdout);
	json_first = false;
	json_string(value);
}

static void report_begin(const char *op, const char *target)
{
	putchar('{');
	json_first = true;
	json_text("op", op);
	json_text("target", target);
}

static int report_end(int error)
{
	const char *name = error ? strerrorname_np(error) : "";

	json_raw("errno", "%d", error);
	json_text("errno_name", name ? name : "?");
	puts("}");
	fflush(stdout);
	return error ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Reads a small file into @text without its last newline. Returns an errno. */
static int read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length;
	int error = 0;

	text[0] = '\0';
	if (fd < 0)
		return errno;
	length = read(fd, text, size - 1);
	if (length < 0) {
		error = errno;
		length = 0;
	}
	close(fd);
	if (length && text[length - 1] == '\n')
		length--;
	text[length] = '\0';
	return error;
}

/* Modules */

/* A module's file may say kvm-amd.ko, the kernel says kvm_amd. */
static bool same_module(const char *a, const char *b, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		char x = a[i] == '-' ? '_' : a[i];
		char y = b[i] == '-' ? '_' : b[i];

		if (x != y)
			return false;
	}
	return b[length] == '\0';
}

/* Is @path, of which @length bytes count, the file of module @name? */
static bool is_file_of(const char *path, size_t length, const char *name)
{
	const char *base = memrchr(path, '/', length);

	base = base ? base + 1 : path;
	length -= base - path;
	if (length < 3 || memcmp(base + length - 3, ".ko", 3))
		return false;
	return same_module(base, name, length - 3);
}

/* kernel/arch/x86/kvm/kvm-amd.ko is kvm_amd. */
static void module_name(char name[NAME_MAX], const char *path)
{
	const char *base = strrchr(path, '/');

	snprintf(name, NAME_MAX, "%s", base ? base + 1 : path);
	name[strcspn(name, ".")] = '\0';
	for (; *name; name++)
		if (*name == '-')
			*name = '_';
}

struct chain {
	char line[LINE_SIZE];		/* what @path points into */
	const char *path[MAX_CHAIN];	/* the module, then what it depends on */
	size_t count;
	bool builtin;
};

/*
 * modules.dep(5): "path: dependency dependency ...". A module comes before its
 * dependencies, so the order of insertion is from the last to the first.
 */
static bool chain_parse(struct chain *chain, const char *name)
{
	char *colon = strchr(chain->line, ':');
	char *rest, *word;

	if (!colon || !is_file_of(chain->line, colon - chain->line, name))
		return false;
	*colon = '\0';
	chain->path[chain->count++] = chain->line;
	rest = colon + 1;
	while ((word = strsep(&rest, " \n")))
		if (*word && chain->count < MAX_CHAIN)
			chain->path[chain->count++] = word;
	return true;
}

static bool chain_parse_builtin(struct chain *chain, const char *name)
{
	chain->builtin = is_file_of(chain->line, strcspn(chain->line, "\n"), name);
	return chain->builtin;
}

/* Looks @name up in the list @file of /lib/modules/RELEASE. Returns an errno. */
static int chain_look_up(struct chain *chain, const char *name, const char *file,
			 bool (*parse)(struct chain *chain, const char *name))
{
	FILE *list = fopen(file, "re");
	bool found = false;

	if (!list)
		return errno;
	while (!found && fgets(chain->line, sizeof(chain->line), list))
		found = parse(chain, name);
	fclose(list);
	return found ? 0 : ENOENT;
}

/* Fills @chain for module @name; the working directory is its base. Returns an errno. */
static int chain_find(struct chain *chain, const char *name)
{
	char directory[PATH_MAX];
	struct utsname system;

	uname(&system);
	snprintf(directory, sizeof(directory), "/lib/modules/%s", system.release);
	if (chdir(directory))
		return errno;
	if (!chain_look_up(chain, name, "modules.dep", chain_parse))
		return 0;
	return chain_look_up(chain, name, "modules.builtin", chain_parse_builtin);
}

static int insert(const char *path, const char *parameters)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int error = 0;

	if (fd < 0)
		return errno;
	if (syscall(SYS_finit_module, fd, parameters, 0))
		error = errno;
	close(fd);
	return error;
}

/* The dependencies of the module, deepest first. Returns an errno, and in @failed whose it is. */
static int insert_dependencies(const struct chain *chain, char failed[NAME_MAX])
{
	for (size_t i = chain->count; i-- > 1;) {
		int error = insert(chain->path[i], "");
		char name[NAME_MAX];

		module_name(name, chain->path[i]);
		if (error && error != EEXIST) {
			strcpy(failed, name);
			return error;
		}
		if (!error)
			json_item(name);
	}
	return 0;
}

static void join(char *text, size_t size, int argc, char **argv)
{
	size_t used = 0;

	text[0] = '\0';
	for (int i = 0; i < argc && used < size; i++)
		used += snprintf(text + used, size - used, "%s%s", i ? " " : "", argv[i]);
}

static int cmd_load(int argc, char **argv)
{
	static struct chain chain;
	char parameters[LINE_SIZE];
	char failed[NAME_MAX] = "";
	int64_t duration = 0;
	int error;

	join(parameters, sizeof(parameters), argc - 1, argv + 1);
	report_begin("load", argv[0]);
	json_text("parameters", parameters);
	error = chain_find(&chain, argv[0]);
	json_raw("builtin", "%s", chain.builtin ? "true" : "false");
	json_open("dependencies", '[');
	if (!error)
		error = insert_dependencies(&chain, failed);
	json_close(']');
	if (!error && !chain.builtin) {
		int64_t begin = now_us();

		error = insert(chain.path[0], parameters);
		duration = now_us() - begin;
	}
	json_text("failed", error && !*failed ? argv[0] : failed);
	json_raw("duration_us", "%" PRId64, duration);
	return report_end(error);
}

static int cmd_unload(int argc, char **argv)
{
	int64_t begin = now_us();
	int error = 0, i;

	for (i = 0; i < argc; i++) {
		if (syscall(SYS_delete_module, argv[i], O_NONBLOCK)) {
			error = errno;
			break;
		}
	}
	report_begin("unload", argv[error ? i : argc - 1]);
	json_open("unloaded", '[');
	for (int done = 0; done < i; done++)
		json_item(argv[done]);
	json_close(']');
	json_raw("duration_us", "%" PRId64, now_us() - begin);
	return report_end(error);
}

/* Files */

static int cmd_write(int argc, char **argv)
{
	const char *path = argv[0], *text = argv[1], *step = "open";
	int64_t begin = now_us();
	int error = 0, fd;

	(void)argc;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0) {
		error = errno;
	} else {
		step = "write";
		/* In one go: to sysfs and tracefs each write is a command. */
		if (write(fd, text, strlen(text)) < 0)
			error = errno;
		close(fd);
	}
	report_begin("write", path);
	json_text("text", text);
	json_text("step", step);
	json_raw("duration_us", "%" PRId64, now_us() - begin);
	return report_end(error);
}

/* Virtual machines */

struct vm {
	int kvm, fd;
	int vcpu[MAX_VCPUS];
	unsigned int vcpus;	/* created so far */
	const char *step;	/* where an errno arose; "" when none did */
};

static int vm_fail(struct vm *vm, const char *step)
{
	vm->step = step;
	return errno;
}

static int vm_open(struct vm *vm, unsigned int vcpus)
{
	vm->step = "";
	vm->fd = -1;
	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm < 0)
		return vm_fail(vm, "open");
	vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, 0UL);
	if (vm->fd < 0)
		return vm_fail(vm, "KVM_CREATE_VM");
	for (unsigned int i = 0; i < vcpus; i++) {
		vm->vcpu[i] = ioctl(vm->fd, KVM_CREATE_VCPU, (unsigned long)i);
		if (vm->vcpu[i] < 0)
			return vm_fail(vm, "KVM_CREATE_VCPU");
		vm->vcpus++;
	}
	return 0;
}

/* A vCPU holds a reference to its VM: the VM goes with the last close. */
static void vm_close(struct vm *vm)
{
	while (vm->vcpus)
		close(vm->vcpu[--vm->vcpus]);
	if (vm->fd >= 0)
		close(vm->fd);
	if (vm->kvm >= 0)
		close(vm->kvm);
}

/*
 * Makes the FIFO through which vm-close will speak. Opened before anything is
 * reported, so that who has read the report finds a reader there.
 */
static int hold_open(struct vm *vm, const char *path, int *fifo)
{
	if (mkfifo(path, 0600))
		return vm_fail(vm, "mkfifo");
	*fifo = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (*fifo < 0)
		return vm_fail(vm, "open-fifo");
	return 0;
}

/* Before the first writer there is no POLLHUP, so this waits for vm-close. */
static void hold_wait(int fifo)
{
	struct pollfd event = { .fd = fifo, .events = POLLIN };

	while (poll(&event, 1, -1) < 0 && errno == EINTR)
		;
}

/*
 * The FIFO's read end stays open until the process exits, after the VM has been
 * closed: its vanishing is what vm-close waits for.
 */
static int hold(struct vm *vm, const char *path, int fifo)
{
	int64_t begin, duration;

	hold_wait(fifo);
	begin = now_us();
	vm_close(vm);
	duration = now_us() - begin;
	unlink(path);
	report_begin("vm-close", path);
	json_raw("duration_us", "%" PRId64, duration);
	return report_end(0);
}

static int vm_run(unsigned int vcpus, const char *path)
{
	struct vm vm = { 0 };
	int64_t begin = now_us();
	int error, status, fifo = -1;

	error = vm_open(&vm, vcpus);
	if (!error && path)
		error = hold_open(&vm, path, &fifo);
	report_begin("vm", "/dev/kvm");
	json_text("step", vm.step);
	json_raw("vcpus", "%u", vm.vcpus);
	json_raw("pid", "%d", getpid());
	json_raw("duration_us", "%" PRId64, now_us() - begin);
	status = report_end(error);
	if (!error && path)
		return hold(&vm, path, fifo);
	vm_close(&vm);
	return status;
}

/*
 * The least of a trust domain: what KVM wants before it asks the TDX module for anything. Types as in the kernel's
 * arch/x86/include/uapi/asm/kvm.h, which the C library's headers may be too old for.
 */
#define VM_TYPE_TDX		5UL
#define TDX_INIT_VM		1
#define PHYSICAL_ADDRESS_LEAF	0x80000008U
#define GUEST_ADDRESS_BITS	(48U << 16)

struct tdx_command {
	uint32_t id, flags;
	uint64_t data, hw_error;
};

struct tdx_init_vm {
	uint64_t attributes, xfam, mrconfigid[6], mrowner[6], mrownerconfig[6], reserved[12];
	uint32_t entries, padding;	/* struct kvm_cpuid2, and its one entry */
	struct kvm_cpuid_entry2 entry;
};

static int td_init(struct vm *vm)
{
	struct tdx_init_vm init = {
		.entries = 1,
		.entry = { .function = PHYSICAL_ADDRESS_LEAF, .eax = GUEST_ADDRESS_BITS },
	};
	struct tdx_command command = { .id = TDX_INIT_VM, .data = (uintptr_t)&init };

	vm->step = "";
	vm->fd = -1;
	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm < 0)
		return vm_fail(vm, "open");
	vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, VM_TYPE_TDX);
	if (vm->fd < 0)
		return vm_fail(vm, "KVM_CREATE_VM");
	if (ioctl(vm->fd, KVM_MEMORY_ENCRYPT_OP, &command) < 0)
		return vm_fail(vm, "KVM_TDX_INIT_VM");
	return 0;
}

static int cmd_td(int argc, char **argv)
{
	struct vm vm = { 0 };
	int64_t begin = now_us();
	int error = td_init(&vm);

	(void)argc;
	(void)argv;
	report_begin("td", "/dev/kvm");
	json_text("step", vm.step);
	json_raw("duration_us", "%" PRId64, now_us() - begin);
	vm_close(&vm);
	return report_end(error);
}

static bool parse_number(const char *text, uint64_t limit, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 0);
	return !errno && *text && *text != '-' && !*end && *value <= limit;
}

static int cmd_vm(int argc, char **argv)
{
	const char *path = NULL;
	uint64_t vcpus = 0;

	for (int i = 0; i < argc; i += 2) {
		if (i + 1 == argc)
			return EXIT_USAGE;
		if (!strcmp(argv[i], "--hold"))
			path = argv[i + 1];
		else if (strcmp(argv[i], "--vcpus") || !parse_number(argv[i + 1], MAX_VCPUS, &vcpus))
			return EXIT_USAGE;
	}
	return vm_run(vcpus, path);
}

/* Tells the holder to close and returns when it has. Returns an errno; ENXIO: it is gone. */
static int hold_release(const char *path)
{
	struct pollfd event = { .events = 0 };
	int error = 0;

	event.fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (event.fd < 0)
		return errno;
	signal(SIGPIPE, SIG_IGN);
	if (write(event.fd, "", 1) < 0)
		error = errno;
	/* POLLERR, which needs no asking for, comes when the last reader has gone. */
	while (!error && !(event.revents & POLLERR))
		if (poll(&event, 1, -1) < 0 && errno != EINTR)
			error = errno;
	close(event.fd);
	return error;
}

static int cmd_vm_close(int argc, char **argv)
{
	int64_t begin = now_us();
	int error = hold_release(argv[0]);

	(void)argc;
	report_begin("vm-close", argv[0]);
	json_raw("duration_us", "%" PRId64, now_us() - begin);
	return report_end(error);
}

/* Model specific registers, through the msr module */

/* Reads or writes @value of @cpu. Returns an errno: EIO is the CPU's #GP, ENXIO an absent CPU. */
static int msr_access(uint64_t cpu, uint32_t msr, uint64_t *value, bool write)
{
	char path[64];
	int error = 0, fd;
	ssize_t done;

	snprintf(path, sizeof(path), "/dev/cpu/%" PRIu64 "/msr", cpu);
	fd = open(path, (write ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
	if (fd < 0)
		return errno;
	if (write)
		done = pwrite(fd, value, sizeof(*value), msr);
	else
		done = pread(fd, value, sizeof(*value), msr);
	if (done < 0)
		error = errno;
	close(fd);
	return error;
}

static int msr_report(const char *op, char **argv, uint64_t value, bool write)
{
	uint64_t cpu, msr;
	int error;

	if (!parse_number(argv[0], INT_MAX, &cpu) || !parse_number(argv[1], UINT32_MAX, &msr))
		return EXIT_USAGE;
	error = msr_access(cpu, msr, &value, write);
	report_begin(op, argv[1]);
	json_raw("cpu", "%" PRIu64, cpu);
	json_raw("value", "\"0x%" PRIx64 "\"", value);
	return report_end(error);
}

static int cmd_rdmsr(int argc, char **argv)
{
	(void)argc;
	return msr_report("rdmsr", argv, 0, false);
}

static int cmd_wrmsr(int argc, char **argv)
{
	uint64_t value;

	(void)argc;
	if (!parse_number(argv[2], UINT64_MAX, &value))
		return EXIT_USAGE;
	return msr_report("wrmsr", argv, value, true);
}

/* State */

/* The first word of the file is a number. */
static void state_number(const char *key, const char *path)
{
	char text[TEXT_SIZE];

	if (!read_text(path, text, sizeof(text)))
		json_raw(key, "%.*s", (int)strcspn(text, " "), text);
}

static void state_text(const char *key, const char *path)
{
	char text[TEXT_SIZE];

	if (!read_text(path, text, sizeof(text)))
		json_text(key, text);
}

/* Calls @visit(path, the file's name) for each path that matches, in sorted order. */
static void for_each_path(const char *pattern, void (*visit)(const char *path, const char *name))
{
	glob_t found;

	if (glob(pattern, 0, NULL, &found))
		return;
	for (size_t i = 0; i < found.gl_pathc; i++)
		visit(found.gl_pathv[i], strrchr(found.gl_pathv[i], '/') + 1);
	globfree(&found);
}

/* @path is /sys/devices/system/cpu/cpuN. */
static void state_hotplug(const char *path, const char *name)
{
	char file[PATH_MAX];

	snprintf(file, sizeof(file), "%s/hotplug/state", path);
	state_number(name + strlen("cpu"), file);
}

/* @path is /dev/cpu/N. An offline CPU has no node. */
static void state_efer(const char *path, const char *name)
{
	uint64_t value;

	(void)path;
	if (!msr_access(strtoull(name, NULL, 10), MSR_EFER, &value, false))
		json_raw(name, "\"0x%" PRIx64 "\"", value);
}

static void state_modules(void)
{
	FILE *list = fopen("/proc/modules", "re");
	char line[LINE_SIZE], name[TEXT_SIZE], state[TEXT_SIZE];
	int refcount;

	if (!list)
		return;
	while (fgets(line, sizeof(line), list)) {
		/* "kvm 1404928 1 kvm_amd, Live 0xffffffffc0400000 (E)" */
		if (sscanf(line, "%511s %*u %d %*s %511s", name, &refcount, state) != 3)
			continue;
		json_open(name, '{');
		json_raw("refcnt", "%d", refcount);
		json_text("state", state);
		json_close('}');
	}
	fclose(list);
}

static void state_parameter(const char *path, const char *name)
{
	state_text(name, path);
}

static void state_parameters(void)
{
	static const char * const modules[] = { "kvm", "kvm_amd", "kvm_intel" };

	for (size_t i = 0; i < ARRAY_SIZE(modules); i++) {
		char pattern[PATH_MAX];

		snprintf(pattern, sizeof(pattern), "/sys/module/%s", modules[i]);
		if (access(pattern, F_OK))
			continue;
		strcat(pattern, "/parameters/*");
		json_open(modules[i], '{');
		for_each_path(pattern, state_parameter);
		json_close('}');
	}
}

static int cmd_state(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	report_begin("state", "");
	state_number("uptime", "/proc/uptime");
	state_text("online", "/sys/devices/system/cpu/online");
	state_number("tainted", "/proc/sys/kernel/tainted");
	json_open("hotplug", '{');
	for_each_path("/sys/devices/system/cpu/cpu[0-9]*", state_hotplug);
	json_close('}');
	json_open("efer", '{');
	for_each_path("/dev/cpu/[0-9]*", state_efer);
	json_close('}');
	json_open("modules", '{');
	state_modules();
	json_close('}');
	json_open("parameters", '{');
	state_parameters();
	json_close('}');
	return report_end(0);
}

static int cmd_cpu(int argc, char **argv)
{
	unsigned int eax, ebx, ecx, edx, signature;
	char vendor[13] = "";
	bool vmx, svm = false;

	(void)argc;
	(void)argv;
	__cpuid(0, eax, ebx, ecx, edx);
	memcpy(vendor, &ebx, 4);
	memcpy(vendor + 4, &edx, 4);
	memcpy(vendor + 8, &ecx, 4);
	__cpuid(1, signature, ebx, ecx, edx);
	vmx = ecx & CPUID_1_ECX_VMX;
	if (__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx))
		svm = ecx & CPUID_80000001_ECX_SVM;
	report_begin("cpu", "");
	json_text("vendor", vendor);
	json_raw("signature", "\"0x%08x\"", signature);
	json_raw("vmx", "%s", vmx ? "true" : "false");
	json_raw("svm", "%s", svm ? "true" : "false");
	return report_end(0);
}

static volatile sig_atomic_t stream_stop;

static void stream_on_term(int signal)
{
	(void)signal;
	stream_stop = 1;
}

static bool write_all(int fd, const char *data, ssize_t length)
{
	while (length > 0) {
		ssize_t done = write(fd, data, length);

		if (done < 0 && errno != EINTR)
			return false;
		if (done > 0) {
			data += done;
			length -= done;
		}
	}
	return true;
}

/*
 * Copies what a trace_pipe gives to a port until SIGTERM, and loses nothing of
 * what it has read. It looks again every 2 ms instead of sleeping in read(2):
 * on 6.1 a reader slept on, with events waiting, after a CPU had gone offline.
 */
static int cmd_stream(int argc, char **argv)
{
	static char buffer[65536];
	int from = open(argv[0], O_RDONLY | O_NONBLOCK);
	int to = open(argv[1], O_WRONLY | O_NOCTTY);
	struct termios line;
	int error = from < 0 || to < 0 ? errno : 0;

	(void)argc;
	signal(SIGTERM, stream_on_term);
	if (to >= 0 && !tcgetattr(to, &line)) {
		cfmakeraw(&line);
		cfsetspeed(&line, B115200);
		tcsetattr(to, TCSANOW, &line);
	}
	while (!error && !stream_stop) {
		ssize_t length = read(from, buffer, sizeof(buffer));

		if (length > 0 && !write_all(to, buffer, length))
			error = errno;
		else if (length < 0 && errno != EAGAIN && errno != EINTR)
			error = errno;
		else if (length <= 0)
			usleep(2000);
	}
	report_begin("stream", argv[0]);
	json_text("to", argv[1]);
	return report_end(error);
}

static const struct command {
	const char *name, *usage;
	int least, most;	/* number of arguments */
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "load", "MODULE [PARAMETER=VALUE...]", 1, INT_MAX, cmd_load },
	{ "unload", "MODULE...", 1, INT_MAX, cmd_unload },
	{ "write", "PATH TEXT", 2, 2, cmd_write },
	{ "vm", "[--vcpus N] [--hold FIFO]", 0, 4, cmd_vm },
	{ "vm-close", "FIFO", 1, 1, cmd_vm_close },
	{ "td", "", 0, 0, cmd_td },
	{ "rdmsr", "CPU MSR", 2, 2, cmd_rdmsr },
	{ "wrmsr", "CPU MSR VALUE", 3, 3, cmd_wrmsr },
	{ "state", "", 0, 0, cmd_state },
	{ "cpu", "", 0, 0, cmd_cpu },
	{ "stream", "TRACE_PIPE PORT", 2, 2, cmd_stream },
};

static const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static int usage(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(stderr, "%s guestctl %s %s\n", i ? "      " : "usage:", commands[i].name,
			commands[i].usage);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	const struct command *command = argc > 1 ? command_find(argv[1]) : NULL;
	int count = argc - 2, status;

	if (!command || count < command->least || count > command->most)
		return usage();
	status = command->run(count, argv + 2);
	return status == EXIT_USAGE ? usage() : status;
}
