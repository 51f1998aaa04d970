/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Brings the TDX module up when it is loaded, as KVM did from v6.16 on: tdx_cpu_enable() on every CPU, then
 * tdx_enable(). From v6.8 to v6.15 the kernel exports both and calls neither.
 *
 * Both want every CPU in VMX operation, which is KVM's business: load kvm_intel with enable_virt_at_load=1 (the
 * default since v6.12) first. Without it SEAMCALL is #UD, and the first tdx_cpu_enable() returns -EACCES.
 *
 * Every return value goes to the log, and the first one that is not 0 is that of loading the module.
 */
#include <linux/cpu.h>
#include <linux/module.h>
#include <linux/smp.h>
#include <asm/tdx.h>

static bool hotplug_lock = true;
module_param(hotplug_lock, bool, 0444);
MODULE_PARM_DESC(hotplug_lock, "hold cpus_read_lock() as tdx_enable() demands; N: break that rule, for lockdep to notice");

/* Called by IPI, because tdx_cpu_enable() wants interrupts off. */
static void enable_this_cpu(void *first_error)
{
	int ret = tdx_cpu_enable();

	pr_info("tdx_driver: CPU %d: tdx_cpu_enable() = %d\n", smp_processor_id(), ret);
	if (ret)
		atomic_cmpxchg((atomic_t *)first_error, 0, ret);
}

static int bring_up(void)
{
	atomic_t first_error = ATOMIC_INIT(0);
	int ret;

	on_each_cpu(enable_this_cpu, &first_error, true);
	if (atomic_read(&first_error))
		return atomic_read(&first_error);

	ret = tdx_enable();
	pr_info("tdx_driver: tdx_enable() = %d\n", ret);
	return ret;
}

static int __init tdx_driver_init(void)
{
	int ret;

	if (!hotplug_lock)
		return bring_up();

	cpus_read_lock();
	ret = bring_up();
	cpus_read_unlock();
	return ret;
}
module_init(tdx_driver_init);

/* There is nothing to take back; with an exit function the module can be unloaded and loaded again. */
static void __exit tdx_driver_exit(void)
{
}
module_exit(tdx_driver_exit);

MODULE_DESCRIPTION("Calls tdx_cpu_enable() and tdx_enable()");
MODULE_LICENSE("GPL");
