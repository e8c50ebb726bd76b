// SPDX-License-Identifier: Apache-2.0

package review

import "regexp"

// rule says which called names are primitives of a kind.
type rule struct {
	kind Kind
	name *regexp.Regexp
}

// never are names that look like primitives and are none: assertions and
// questions about locks, attributes of netlink messages and texts, the copying
// of user memory, locks of oscillators, and __in_dev_get(), which takes no
// reference although in_dev_put() drops one.
var never = regexp.MustCompile(`^lockdep_|^might_lock|_is_locked|_lock_is_held|_lock(dep)?_held|_locked$` +
	`|^(__)?(nla|nlmsg|genlmsg|skb|seq|sg|snd_seq|rtattr|xdr)_put|msg_put$|attr_put$` +
	`|^(__)?(get|put)_(user|unaligned|cpu|unused_fd|order|random|options?|link|target|handler)` +
	`|(pll|cdr|wait_for|wait|get|has|check|is)_lock$` +
	`|^__in6?_dev_get` +
	`|^rcu_(is_watching|read_lock(_\w+)?_held|expedite|momentary)|^rcu_head_init|^INIT_` +
	`|^refcount_read$|^kref_read$|^page_ref_count$|^atomic(64|_long)?_read$|^barrier_nospec$`)

// rules is the table of the kernel's primitives; the first that fits counts.
// What it is made from: Documentation/locking/, Documentation/kernel-hacking/
// locking.rst, Documentation/core-api/refcount-vs-atomic.rst and kref.rst,
// Documentation/RCU/whatisRCU.rst section 7, Documentation/memory-barriers.txt,
// Documentation/atomic_t.txt and atomic_bitops.txt of Linux 6.1. Beyond the
// primitives themselves it has the kernel's naming habits for functions around
// them (inode_lock, lock_sock, dev_hold, put_device).
var rules = []rule{
	{RCU, regexp.MustCompile(`^(__|raw_)?s?rcu_|^RCU_INIT_POINTER|^synchronize_(s?rcu|net)|^call_(s?rcu|rcu_tasks)|^kv?free_(call_)?rcu|^get_state_synchronize_rcu|^cond_synchronize_rcu` +
		`|_rcu(_bh|_raw|_notrace|_lockless|_continue|_mightsleep)?$`)},

	// Locks: spinlocks, reader-writer locks, mutexes, semaphores, sequence
	// counters, and turning off preemption and interrupts.
	{Locking, regexp.MustCompile(`^(_|__)?(raw_|_raw_)?(spin|read|write)_((try|un)?lock|lock_init)(_|$)|^spin_lock_init|^rwlock_init|^bit_spin_` +
		`|^(__)?(rt_|ww_)?mutex_(lock|unlock|trylock|init|destroy|acquire)|^ww_acquire_` +
		`|^(percpu_)?(down|up)(_(read|write))?(_(trylock|killable|interruptible|timeout|nested|non_owner|killable_nested))?$|^downgrade_write$|^(percpu_)?(__)?init_rwsem$|^sema_init$` +
		`|^(raw_)?(read|write)_seq|^done_seqretry$|^need_seqretry$|^seq(lock|count)_init|^u64_stats_(update|fetch)_` +
		`|^local_(irq|bh)_(save|restore|disable|enable)|^preempt_(disable|enable)|^migrate_(disable|enable)$` +
		`|^bh_(un)?lock_sock|^(lock|release)_sock|^rtnl_(un|try)?lock|^(try)?(un)?lock_[a-z]|^(un)?guard$|^scoped_(cond_)?guard$` +
		`|_(try|un|re)?lock(_(irq|irqsave|irqrestore|bh|nested|nest_lock|shared|exclusive|killable|interruptible|fast|slow|set|multiple|ctx|single|double|excl))*$|^xfs_i(un)?lock` +
		`|^folio_(un|try)?lock|^wait_on_bit_lock|^clear_bit_unlock|^test_and_set_bit_lock`)},

	// Reference counts and counts of users.
	{Counting, regexp.MustCompile(`^(refcount|page_ref|percpu_ref)_|^kref_|^kobject_(get|put)|^(__)?(try_)?module_(get|put)` +
		`|^(raw_)?atomic(64|_long)?_(fetch_)?(inc|dec|add|sub)(_(and_test|not_zero|unless|unless_negative|unless_positive|if_positive|return|negative|and_lock|and_mutex_lock|and_raw_lock))*$` +
		`|^(fget|fput|fdget|fdput|iget|iget5|iget_locked|iput|igrab|ihold|dget|dput|dget_parent|mntget|mntput|path_get|path_put)(_\w+)?$` +
		`|^(mmget|mmput|mmgrab|mmdrop|bdgrab|bdput|maybe_get_net|css_tryget|skb_get|consume_ref)(_\w+)?$` +
		`|^(dst|neigh|sk_dst|rt6|ip6_rt|fib_info|fib6_info)_(hold|release|clone)(_safe)?$|^hci_conn_drop$` +
		`|^(get|put)_(device|page|task_struct|task_stack|cred|pid|pid_ns|net|net_ns|file|disk|mm|group_info|filesystem|driver|super|inode|uid|user_ns|ipc_ns|io_context|mtd_device|swap_page|cpu_map|rpccred|nfs_\w+)(_\w+)?$` +
		`|^put_[a-z]|_put_(page|folio|root|dev|device|inode|block|bh|file|ref|client|session|req|request|obj|object|conn|node|group|task|link|net|super|entry|cred|disk|buf|bo|ctx|context|chan|channel|host|port|extent|map|cache|key)s?$` +
		`|^(usb|pci|i2c|spi|scsi|of|fwnode|pm_runtime|drm|clk|bus|class|driver|blk|ib|rdma|nvme\w*|bpf|cgroup)_(\w+_)?(get|put)(_(dev|intf|urb|hcd|sync|autosuspend|sync_suspend|sync_autosuspend|noresume|noidle|noidle_nolock|if_in_use|if_active|suspend|unless_zero))?$` +
		`|_(put|hold|unref|tryget|get_unless_zero|try_get|get_ref|put_ref|ref_get|ref_put|drop_ref|take_ref)$|^(hold|unref)_[a-z]`)},

	// Barriers, accesses that the compiler may not reorder, and atomic operations
	// that imply a full barrier.
	{Ordering, regexp.MustCompile(`^(smp|virt|dma|__smp|io)_(mb|rmb|wmb|store_mb|load_acquire|store_release|cond_load|acquire|read_barrier)|^(mb|rmb|wmb|barrier|set_mb)$` +
		`|^(READ|WRITE|ACCESS)_ONCE(_NOCHECK)?$|^(try_|sync_)?cmpxchg(64|_double)?(_local)?$|^xchg$` +
		`|^atomic(64|_long)?_\w*(cmpxchg|xchg|acquire|release|relaxed)$|^(try_)?(cmpxchg|xchg)_(acquire|release|relaxed)$|^test_and_(set|clear|change)_bit$|^set_current_state$|^wq_has_sleeper$`)},
}

// notCounting are names that end like those that take or drop a reference; they
// look up or set something instead.
var notCounting = regexp.MustCompile(`^(of|fwnode|device|platform|acpi|pci|regmap|drm_mode|i2c|spi|usb|bus|class|driver|blk|clk|ib|rdma|bpf|cgroup|scsi)_get(_|$)|_(property|drvdata|data|name|id|rate|value|config|info|status|state|stats|parent|next|by_\w+|index|count|size|type|desc|descriptor|param|params|range|irq|string)_get$|_get$`)

// counting are those among them that count after all.
var counting = regexp.MustCompile(`^(pm_runtime|kref|kobject|refcount|percpu_ref|usb_get_(dev|intf|urb|hcd)|pci_dev|of_node|fwnode_handle|module|try_module|__module|scsi_device|scsi_host|path|skb|drm_dev|drm_gem_object|drm_connector|drm_framebuffer|drm_mode_object|blk_queue|bio|css|nvme_\w+|ib_device|folio|bpf_prog|bpf_map)(_get|$)`)

// Classify says of what kind the primitive is that a called function or macro
// of this name is; ok is false if it is none.
func Classify(name string) (kind Kind, ok bool) {
	if never.MatchString(name) {
		return "", false
	}
	for _, r := range rules {
		if r.name.MatchString(name) {
			if r.kind == Counting && notCounting.MatchString(name) && !counting.MatchString(name) {
				return "", false
			}
			return r.kind, true
		}
	}
	return "", false
}

// inCode are symbols that only compiled code refers to: what inline functions
// of the kernel's headers call (arch/x86 and lib/refcount.c of Linux 6.1).
var inCode = map[string]Kind{
	"refcount_warn_saturate":        Counting,
	"queued_spin_lock_slowpath":     Locking,
	"queued_read_lock_slowpath":     Locking,
	"queued_write_lock_slowpath":    Locking,
	"native_queued_spin_unlock":     Locking,
	"__local_bh_enable_ip":          Locking,
	"__put_task_struct":             Counting,
	"__folio_put":                   Counting,
	"__SCT__preempt_schedule":       Locking, // what preempt_enable() ends in
	"__SCT__preempt_schedule_thunk": Locking,
}

// ClassifySymbol is Classify for a symbol that compiled code refers to.
func ClassifySymbol(name string) (Kind, bool) {
	if k, ok := inCode[name]; ok {
		return k, true
	}
	return Classify(name)
}
