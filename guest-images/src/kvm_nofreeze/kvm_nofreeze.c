/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Enables virtualization from a task that a suspend does not wait for.
 *
 * Suspend freezes user tasks first, and gives up when one does not reach user space within 20 s: so a suspend never
 * meets a load of KVM half way. A task with PF_NOFREEZE is not waited for. There are two ways to have one in the middle
 * of kvm_enable_virtualization():
 *
 *   vm=Y        a kernel thread, kvm_nofreeze, opens /dev/kvm and creates a VM, which enables virtualization where
 *               kvm.enable_virt_at_load=0. Writing returns at once, `result` tells of it when it is done (the VM's file
 *               descriptor, or -errno; -EINPROGRESS until then). vm=N closes the VM and waits until it is gone.
 *   exempt=PID  any task, such as a modprobe that is held somewhere, gets PF_NOFREEZE. execve() takes the flag away, so
 *               it cannot be inherited from a shell.
 */
#include <linux/fcntl.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/kvm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pid.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>

static int result = -EINPROGRESS;
module_param(result, int, 0444);
MODULE_PARM_DESC(result, "what KVM_CREATE_VM returned");

static struct task_struct *creator;
static DEFINE_MUTEX(creator_lock);

/*
 * What the thread has of the task that starts it: the open /dev/kvm, since kernel threads of 7.3 see an empty file
 * system (kernel/fork.c: userspace_init_fs), and the address space, which a VM belongs to and they do not have.
 */
static struct file *kvm;
static struct mm_struct *mm;

static int creator_thread(void *unused)
{
	int fd;

	/* Kernel threads are born with PF_NOFREEZE; set_freezable() would take it away. */
	kthread_use_mm(mm);
	fd = kvm->f_op->unlocked_ioctl(kvm, KVM_CREATE_VM, 0);
	WRITE_ONCE(result, fd);
	pr_info("kvm_nofreeze: KVM_CREATE_VM = %d\n", fd);

	for (;;) {
		set_current_state(TASK_IDLE);
		if (kthread_should_stop())
			break;
		schedule();
	}
	__set_current_state(TASK_RUNNING);

	if (fd >= 0)
		close_fd(fd);
	fput(kvm);
	flush_delayed_fput();
	kthread_unuse_mm(mm);
	mmput(mm);
	return 0;
}

static int start_creator(void)
{
	struct task_struct *task;

	kvm = filp_open("/dev/kvm", O_RDWR | O_CLOEXEC, 0);
	if (IS_ERR(kvm))
		return PTR_ERR(kvm);
	mm = get_task_mm(current);
	result = -EINPROGRESS;
	task = kthread_run(creator_thread, NULL, "kvm_nofreeze");
	if (IS_ERR(task)) {
		mmput(mm);
		fput(kvm);
		return PTR_ERR(task);
	}
	creator = task;
	return 0;
}

static void stop_creator(void)
{
	kthread_stop(creator);
	creator = NULL;
}

static int set_vm(const char *value, const struct kernel_param *param)
{
	bool wanted;
	int ret = kstrtobool(value, &wanted);

	if (ret)
		return ret;
	mutex_lock(&creator_lock);
	if (wanted && !creator)
		ret = start_creator();
	else if (!wanted && creator)
		stop_creator();
	mutex_unlock(&creator_lock);
	return ret;
}

static int get_vm(char *buffer, const struct kernel_param *param)
{
	return sysfs_emit(buffer, "%c\n", READ_ONCE(creator) ? 'Y' : 'N');
}

static const struct kernel_param_ops vm_ops = { .set = set_vm, .get = get_vm };
module_param_cb(vm, &vm_ops, NULL, 0644);
MODULE_PARM_DESC(vm, "whether a kernel thread has a VM");

static int set_exempt(const char *value, const struct kernel_param *param)
{
	struct task_struct *task;
	struct pid *pid;
	int number;
	int ret = kstrtoint(value, 0, &number);

	if (ret)
		return ret;
	pid = find_get_pid(number);
	task = get_pid_task(pid, PIDTYPE_PID);
	put_pid(pid);
	if (!task)
		return -ESRCH;
	/* A task's flags are its own to change: this is for one that is asleep, or held. */
	task->flags |= PF_NOFREEZE;
	pr_info("kvm_nofreeze: the freezer leaves %s[%d] alone\n", task->comm, number);
	put_task_struct(task);
	return 0;
}

static const struct kernel_param_ops exempt_ops = { .set = set_exempt };
module_param_cb(exempt, &exempt_ops, NULL, 0200);
MODULE_PARM_DESC(exempt, "a task that is not to be frozen any more");

static int __init kvm_nofreeze_init(void)
{
	return 0;
}
module_init(kvm_nofreeze_init);

static void __exit kvm_nofreeze_exit(void)
{
	/* Nobody writes parameters any more, they are gone from sysfs. */
	if (creator)
		stop_creator();
}
module_exit(kvm_nofreeze_exit);

MODULE_DESCRIPTION("Enables virtualization from a task that is not frozen");
MODULE_LICENSE("GPL");
