/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The emulated platform: its vCPUs, what is watched, and the harness at the other end of the link. */
#ifndef PLATFORM_H
#define PLATFORM_H

#include "cpu.h"
#include "event.h"
#include "link.h"
#include "msr.h"
#include "point.h"
#include "probe.h"
#include "vmx.h"

/* A #GP that is raised (plugin.c), by the instruction at `pc`; 0: none. */
struct gp {
	uint64_t pc, cr2;		/* on its way */
	uint64_t due_pc, due_rsp;	/* an interrupt on this vCPU came before it; on this stack */
};

struct vcpu {
	unsigned int index;
	struct cpu cpu;
	struct vmx vmx;
	struct msrs msrs;
	bool firmware_vmxe;	/* firmware leaves CR4.VMXE set, after each RESET */
	bool vmxe_preset;	/* what is left of that: each MOV to CR4 sets the bit until the kernel does itself */
	struct gp gp;
};

struct platform {
	pthread_mutex_t lock;	/* of the vCPUs' vmx, msrs, vmxe_preset and gp, `tdx` and the boots */
	unsigned int max_vcpus;
	struct vcpu *vcpus;
	bool tdx;		/* SEAMCALL reaches the TDX module */
	bool boot_announced;	/* the next kernel start is `next_boot` */
	uint64_t next_boot;
	bool running;		/* set-up is over */
	bool retranslate;	/* atomic: translations lack the instrumentation of something that is watched since */
	struct event_log log;
	struct probes probes;
	struct points points;
	struct link link;
};

/* Executes a command of the harness and answers it. */
void command_execute(struct platform *platform, char *line);

/*
 * Executes the commands that have arrived. By whoever holds the link's lock, before it gives that up: what is in the
 * link's buffer already would not wake the reader, who waits for the socket.
 */
void command_execute_waiting(struct platform *platform);

/* Reads commands until `go`. */
void command_set_up(struct platform *platform);

/* SEAMCALL: what the harness' TDX module makes of it. On OUTCOME_SUCCEED the registers hold the result. */
struct outcome request_seamcall(struct platform *platform, struct vcpu *vcpu);

/* Lets the harness act while this vCPU stands at a hook. */
void request_hook(struct platform *platform, struct vcpu *vcpu, const struct hook *hook);

/* Tells the harness that a task is held, and that one was lost to a reset. */
void request_held_notice(struct platform *platform, unsigned int vcpu, uint32_t point, const struct hold_context *context);
void request_lost_notice(struct platform *platform, uint32_t point);

/* Tells the harness that the vCPU was reset. */
void request_reset_notice(struct platform *platform, unsigned int vcpu);

#endif
