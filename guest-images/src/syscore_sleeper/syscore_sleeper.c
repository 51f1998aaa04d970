/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keeps syscore_shutdown() busy: its .shutdown sleeps, in the middle of the list and with the list's mutex held. Whoever
 * registers syscore operations meanwhile waits for the mutex, and comes after a shutdown that has passed already.
 *
 * Load it before KVM: the list is gone through from its end, so what was registered later has been called by then.
 */
#include <linux/jiffies.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/syscore_ops.h>
#include <linux/version.h>
#include <linux/wait.h>

#define LONGEST_MS 30000U /* a guest that never resets would be taken for one that hangs */

static uint ms = 1000;
module_param(ms, uint, 0644);
MODULE_PARM_DESC(ms, "how long .shutdown sleeps, in milliseconds, at most 30000");

static bool wake;
static DECLARE_WAIT_QUEUE_HEAD(sleeper);

static int set_wake(const char *value, const struct kernel_param *param)
{
	int ret = param_set_bool(value, param);

	wake_up(&sleeper);
	return ret;
}

static const struct kernel_param_ops wake_ops = { .set = set_wake, .get = param_get_bool };
module_param_cb(wake, &wake_ops, &wake, 0644);
MODULE_PARM_DESC(wake, "Y ends the sleep");

static void sleep_at_shutdown(void)
{
	pr_info("syscore_sleeper: asleep for %u ms\n", min(ms, LONGEST_MS));
	wait_event_timeout(sleeper, READ_ONCE(wake), msecs_to_jiffies(min(ms, LONGEST_MS)));
	pr_info("syscore_sleeper: awake\n");
}

/* Callbacks have an argument since v6.19, and what is registered is no longer the table of them. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
static void shutdown(void *data)
{
	sleep_at_shutdown();
}

static const struct syscore_ops ops = { .shutdown = shutdown };
static struct syscore registered = { .ops = &ops };
#else
#define register_syscore register_syscore_ops
#define unregister_syscore unregister_syscore_ops
static struct syscore_ops registered = { .shutdown = sleep_at_shutdown };
#endif

static int __init syscore_sleeper_init(void)
{
	register_syscore(&registered);
	return 0;
}
module_init(syscore_sleeper_init);

static void __exit syscore_sleeper_exit(void)
{
	unregister_syscore(&registered);
}
module_exit(syscore_sleeper_exit);

MODULE_DESCRIPTION("A syscore operation that sleeps at shutdown");
MODULE_LICENSE("GPL");
