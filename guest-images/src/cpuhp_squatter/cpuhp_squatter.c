/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Occupies KVM's CPU hotplug state, without callbacks, for as long as it is loaded.
 *
 * cpuhp_setup_state() then fails with -EBUSY before it has called kvm_online_cpu() anywhere, so that nothing is rolled
 * back: whatever was enabled on a CPU by then, other than by the state's own callbacks, stays enabled. For kernels with
 * CPUHP_AP_KVM_ONLINE, that is from v6.3 on.
 */
#include <linux/cpuhotplug.h>
#include <linux/module.h>

static int __init cpuhp_squatter_init(void)
{
	return cpuhp_setup_state_nocalls(CPUHP_AP_KVM_ONLINE, "cpuhp_squatter", NULL, NULL);
}
module_init(cpuhp_squatter_init);

static void __exit cpuhp_squatter_exit(void)
{
	cpuhp_remove_state_nocalls(CPUHP_AP_KVM_ONLINE);
}
module_exit(cpuhp_squatter_exit);

MODULE_DESCRIPTION("Occupies KVM's CPU hotplug state");
MODULE_LICENSE("GPL");
