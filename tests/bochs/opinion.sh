#!/bin/busybox sh
# What a guest can see of VMX, as lines on its console; the same under every emulator. It takes /init's place
# (rdinit=/opinion), because an emulator may have neither network nor virtio.
#
#	opinion: begin
#	opinion: step NAME
#	LINES
#	opinion: end

export PATH=/bin:/sbin:/usr/sbin

step() {
	echo "opinion: step $1"
}

# The numbers that are always of interest; what only a kernel with VMX in use could get wrong.
look() {
	step "$1"
	guestctl state
}

set_cpu1() {
	guestctl write /sys/devices/system/cpu/cpu1/online "$1"
}

probe() {
	step "$1"
	dmesg -c >/dev/null
	insmod /vmx_probe.ko
	echo "insmod exits $?"
	dmesg | sed -n 's/^.*vmx_probe: \([0-9]\)/vmx_probe: \1/p'
	rmmod vmx_probe
	echo "rmmod exits $?"
}

capabilities() {
	step capabilities
	for cpu in 0 1; do
		for msr in 0x3a 0x480 0x481 0x482 0x483 0x484 0x485 0x486 0x487 0x488 0x489 0x48a 0x48b 0x48c 0x48d \
			0x48e 0x48f 0x490 0x491; do
			guestctl rdmsr "$cpu" "$msr"
		done
	done
}

hotplug() {
	step "offline $1"
	set_cpu1 0
	guestctl state
	step "online $1"
	set_cpu1 1
	guestctl state
}

# A VM that stays open, in the background; FIFO is there when it is.
hold_vm() {
	guestctl vm --vcpus 2 --hold /run/vm >/run/vm.out &
	until [ -s /run/vm.out ]; do usleep 1000; done
	head -n 1 /run/vm.out
}

busybox mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
ln -s /bin/kmod /sbin/modprobe
# The lines below are read by a program: no message of the kernel in their midst.
dmesg -n 1

echo "opinion: begin"
step cpu
guestctl load msr
guestctl cpu
capabilities
step "kernel log of the boot"
dmesg | grep -iE 'kvm|vmx'

probe "instructions"
step "user mode with VMX off"
vmx_user "in user mode with VMX off"

step "load"
modprobe kvm_intel
echo "modprobe exits $?"
guestctl state
step "user mode with VMX on"
vmx_user "in user mode with VMX on"
hotplug "with the module"
step "vm"
guestctl vm --vcpus 2
step "unload with a VM"
hold_vm
guestctl unload kvm_intel
look "a VM is open"
hotplug "with a VM"
step "close the VM"
guestctl vm-close /run/vm
guestctl state
step "unload"
guestctl unload kvm_intel kvm
guestctl state
hotplug "without the module"

step "load, to enable at the first VM"
guestctl load kvm enable_virt_at_load=0
guestctl load kvm_intel
guestctl state
hotplug "before the first VM"
step "first VM"
rm -f /run/vm.out
hold_vm
hotplug "with the first VM"
step "close the first VM"
guestctl vm-close /run/vm
guestctl unload kvm_intel kvm
guestctl state

step "kernel log of KVM"
dmesg | grep -v vmx_probe | grep -iE 'kvm|vmx|BUG|WARNING'

probe "instructions after KVM"
echo "opinion: end"
exec sleep 1000000
