// SPDX-License-Identifier: Apache-2.0

package compat

// refused are symbols that a driver which can be replaced does not import, and why:
// each hands something of the device to others than the network stack, who would not
// get it from a new driver.
var refused = []struct{ symbol, why string }{
	{"auxiliary_device_init", "it makes auxiliary devices, to which other drivers are bound"},
	{"__auxiliary_device_add", "it makes auxiliary devices, to which other drivers are bound"},
	{"devlink_alloc_ns", "it has a devlink instance, which is known by its ports and regions"},
	{"devlink_alloc", "it has a devlink instance, which is known by its ports and regions"},
	{"_ib_alloc_device", "it is an RDMA device, whose memory programs have mapped"},
	{"ib_register_device", "it is an RDMA device, whose memory programs have mapped"},
	{"wiphy_new_nm", "it is a wireless device, whose stations and keys are in the driver"},
	{"ieee80211_alloc_hw_nm", "it is a wireless device, whose stations and keys are in the driver"},
	{"wireless_send_event", "it is a wireless device, whose stations and keys are in the driver"},
	{"vfio_register_group_dev", "it gives the device to virtual machines (VFIO)"},
	{"vdpa_register_device", "it gives the device to virtual machines (vDPA)"},
	{"alloc_candev_mqs", "it is a CAN device, for which there is no stand-in"},
}

// Refused gives the reasons for which the imports of a driver rule it out.
func (i *Image) Refused() (why []string) {
	for _, r := range refused {
		if i.Facts.Imported(r.symbol) != nil {
			why = append(why, r.why+" ("+r.symbol+")")
		}
	}
	return why
}

// pools are the functions that make a page pool (include/net/page_pool.h).
var pools = []string{"page_pool_create", "page_pool_create_percpu"}

// pagePool says whether a driver keeps its receive pages in a pool.
func (i *Image) pagePool() bool {
	for _, p := range pools {
		if i.Facts.Imported(p) != nil {
			return true
		}
	}
	return false
}
