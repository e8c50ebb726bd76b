// SPDX-License-Identifier: Apache-2.0

package refuse

// The refusals that have to do with the replacement of whole drivers, before
// anything stops.
const (
	DriverSet          ID = "driver-set"
	DriverIncompatible ID = "driver-incompatible"
	DriverUses         ID = "driver-uses"
	DriverBuiltIn      ID = "driver-built-in"
	DriverNotLoaded    ID = "driver-not-loaded"
	DriverFile         ID = "driver-file"
	NoShadowClass      ID = "no-shadow-class"
	DriverUntested     ID = "driver-untested"
	DriverPatched      ID = "driver-patched"
	DriverXDP          ID = "driver-xdp"
	DriverAFXDP        ID = "driver-af-xdp"
	DriverVFs          ID = "driver-vfs"
	DriverTC           ID = "driver-tc-offload"
	DriverTLS          ID = "driver-tls-offload"
	DriverChildren     ID = "driver-children"
	DriverPagePool     ID = "driver-page-pool"
	DriverRoot         ID = "driver-root"
)

var drivers = []Entry{
	{DriverSet, "the driver needs another module of its own folder, and that one differs in the new version, too: several modules at once are not replaced yet", "take a version of the source in which only this module differs"},
	{DriverIncompatible, "the new driver cannot take the place of the one that runs: it would not load here, does not claim a device that is there, or lacks a parameter that is set", "see the points named; take a version that has them, or build it for this kernel"},
	{DriverUses, "the driver uses a kind of interface whose other users would be cut off (auxiliary devices, devlink, RDMA, wireless)", "change it at the next boot; no replacement of such a driver is supported"},
	{DriverBuiltIn, "the driver is part of the kernel image, not a module", "boot a new kernel, or update it with a livepatch"},
	{DriverNotLoaded, "the driver is not loaded, or has no device", "load the new one with modprobe: there is nothing to carry over"},
	{DriverFile, "the file of the driver that runs is not on this host, so that it could not be brought back", "reinstall the kernel's package, and load the driver from there"},
	{NoShadowClass, "lupatch has no stand-in for this class of devices", "only drivers of Ethernet cards are replaced; unload and load it if it can be spared"},
	{DriverUntested, "nobody has tested the replacement of this driver; see the list in docs/evidence/shadow-drivers.tsv", "try it on a host that can be spared; --untested-driver does it anyhow"},
	{DriverPatched, "a livepatch is in force on the module, and would not be on the new one", "roll it back first: lupatch rollback"},
	{DriverXDP, "an XDP program is attached to the driver itself", "detach it (ip link set DEV xdp off), or attach it in generic mode, for the replacement"},
	{DriverAFXDP, "AF_XDP sockets are bound to queues of the device", "stop the programs named for the replacement"},
	{DriverVFs, "virtual functions of the device are enabled", "take them away first (sriov_numvfs), and set them up again afterwards"},
	{DriverTC, "traffic control is offloaded to the device", "switch the offload off (ethtool -K DEV hw-tc-offload off) and set the qdisc or filter up again"},
	{DriverTLS, "TLS, IPsec or MACsec is offloaded to the device, whose keys are in the driver alone", "switch the features off (ethtool -K DEV tls-hw-tx-offload off)"},
	{DriverChildren, "other drivers are bound to what this one makes of the device (auxiliary devices, RDMA, wireless, DPDK)", "stop what uses them and unload those drivers first"},
	{DriverPagePool, "the driver keeps pages that an IOMMU has mapped for the device in a pool (page_pool), and packets under way hold them", "boot with iommu=pt, or change the driver at the next boot"},
	{DriverRoot, "the root file system comes over a device of this driver, and something that the replacement needs is not in memory", "see what is missing; it has to be loaded or installed locally first"},
}
