"""The emulated platform: VMX and the TDX module on any machine."""
