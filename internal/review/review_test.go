// SPDX-License-Identifier: Apache-2.0

package review_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lupatch/lupatch/internal/review"
)

// told is what a comparison says, a line a point.
func told(points []review.Point) string {
	var b strings.Builder
	for _, p := range points {
		b.WriteString(p.Function + ": " + string(p.Kind) + ": " + p.Changes() + "\n")
	}
	return b.String()
}

// cases are two versions of a file and what is to be said of them.
var cases = []struct{ name, old, new, want string }{
	{"a lock is added",
		`int f(struct s *x) { x->n++; return 0; }`,
		`int f(struct s *x) { mutex_lock(&x->lock); x->n++; mutex_unlock(&x->lock); return 0; }`,
		"f: locking: +mutex_lock +mutex_unlock\n"},
	{"one kind of lock for another",
		`static void f(struct s *x) { spin_lock(&x->lock); x->n++; spin_unlock(&x->lock); }`,
		`static void f(struct s *x) { spin_lock_bh(&x->lock); x->n++; spin_unlock_bh(&x->lock); }`,
		"f: locking: +spin_lock_bh +spin_unlock_bh -spin_lock -spin_unlock\n"},
	{"another lock of the same kind",
		`void f(struct s *x) { mutex_lock(&x->a); g(x); mutex_unlock(&x->a); }`,
		`void f(struct s *x) { mutex_lock(&x->b); g(x); mutex_unlock(&x->b); }`,
		"f: locking: moved mutex_lock mutex_unlock\n"},
	{"the end of a critical section moves",
		`void f(struct s *x) { spin_lock(&x->l); a(x->p); spin_unlock(&x->l); b(x->p); }`,
		`void f(struct s *x) { spin_lock(&x->l); a(x->p); b(x->p); spin_unlock(&x->l); }`,
		"f: locking: moved spin_unlock\n"},
	{"an unlock that was forgotten",
		`int f(struct s *x) { mutex_lock(&x->l); if (g(x)) return -1; mutex_unlock(&x->l); return 0; }`,
		`int f(struct s *x) { mutex_lock(&x->l); if (g(x)) { mutex_unlock(&x->l); return -1; } mutex_unlock(&x->l); return 0; }`,
		"f: locking: +mutex_unlock\n"},
	{"an unlock that was jumped over",
		`int f(struct s *x) { mutex_lock(&x->l); if (g(x)) return -1; h(x); out: mutex_unlock(&x->l); return 0; }`,
		`int f(struct s *x) { mutex_lock(&x->l); if (g(x)) goto out; h(x); out: mutex_unlock(&x->l); return 0; }`,
		"f: locking: +mutex_unlock\n"},
	{"a way out that takes the lock again",
		`int f(struct s *x) { mutex_lock(&x->l); if (g(x)) { mutex_unlock(&x->l); return -1; } mutex_unlock(&x->l); return 0; out: mutex_lock(&x->l); h(x); mutex_unlock(&x->l); return -1; }`,
		`int f(struct s *x) { mutex_lock(&x->l); if (g(x)) { mutex_unlock(&x->l); goto out; } mutex_unlock(&x->l); return 0; out: mutex_lock(&x->l); h(x); mutex_unlock(&x->l); return -1; }`,
		""},
	{"a reference of the driver's own kind",
		"void g(struct s *x) { thing_put(x); }\nvoid f(struct s *x) { h(x); }",
		"void g(struct s *x) { thing_put(x); }\nvoid f(struct s *x) { thing_get(x); h(x); }",
		"f: reference counting: +thing_get\n"},
	{"RCU by a guard",
		`int f(struct s *x) { return x->n; }`,
		`int f(struct s *x) { guard(rcu)(); return x->n; }`,
		"f: RCU: +guard(rcu)\n"},
	{"a reference is held longer",
		`void f(struct s *x) { dev_put(x->dev); g(x->dev); h(x); }`,
		`void f(struct s *x) { g(x->dev); h(x); dev_put(x->dev); }`,
		"f: reference counting: moved dev_put\n"},
	{"references",
		`void f(struct s *x) { atomic_inc(&x->users); x->next = y; }`,
		`void f(struct s *x) { refcount_inc(&x->users); get_device(&x->dev); x->next = y; }`,
		"f: reference counting: +get_device +refcount_inc -atomic_inc\n"},
	{"RCU",
		`void f(struct s *x) { list_del(&x->list); kfree(x); }`,
		`void f(struct s *x) { list_del_rcu(&x->list); kfree_rcu(x, rcu); }`,
		"f: RCU: +kfree_rcu +list_del_rcu\n"},
	{"what compiles to nothing",
		`int f(struct s *x) { x->ready = 1; return x->n; }`,
		`int f(struct s *x) { smp_wmb(); WRITE_ONCE(x->ready, 1); return READ_ONCE(x->n); }`,
		"f: memory barriers: +READ_ONCE +WRITE_ONCE +smp_wmb\n"},
	{"several kinds",
		`void f(struct s *x) { g(x); }`,
		`void f(struct s *x) { rcu_read_lock(); kref_get(&x->ref); smp_mb(); rcu_read_unlock(); g(x); }`,
		"f: reference counting: +kref_get\nf: RCU: +rcu_read_lock +rcu_read_unlock\nf: memory barriers: +smp_mb\n"},
	{"a guard",
		`int f(struct s *x) { return x->n; }`,
		`int f(struct s *x) { guard(mutex)(&x->lock); return x->n; }`,
		"f: locking: +guard(mutex)\n"},
	{"a call of the file's own wrapper",
		"static void take(struct s *x) { spin_lock(&x->l); x->owner = 1; }\nvoid f(struct s *x) { g(x); }",
		"static void take(struct s *x) { spin_lock(&x->l); x->owner = 1; }\nvoid f(struct s *x) { take(x); g(x); }",
		"f: locking: +take\n"},
	{"a new function has it",
		`void f(struct s *x) { g(x); }`,
		"static void count(struct s *x) { spin_lock(&x->l); x->n++; spin_unlock(&x->l); }\nvoid f(struct s *x) { g(x); count(x); }",
		"f: locking: +spin_lock +spin_unlock\n"},
	{"a macro has it",
		"#define FREE(x) do { kfree(x); \\\n} while (0)",
		"#define FREE(x) do { synchronize_rcu(); \\\n kfree(x); } while (0)",
		"FREE: RCU: +synchronize_rcu\n"},
	{"a system call",
		`SYSCALL_DEFINE1(x, int, n) { return g(n); }`,
		`SYSCALL_DEFINE1(x, int, n) { preempt_disable(); n = g(n); preempt_enable(); return n; }`,
		"SYSCALL_DEFINE1(x): locking: +preempt_disable +preempt_enable\n"},
	{"functions that conditions take apart",
		"void f(int n)\n{\n#ifdef A\n\tif (n) {\n#else\n\tif (!n) {\n#endif\n\t\tg();\n\t}\n}\nvoid h(void)\n{\n\tg();\n}\n",
		"void f(int n)\n{\n#ifdef A\n\tif (n) {\n#else\n\tif (!n) {\n#endif\n\t\tg();\n\t}\n}\nvoid h(void)\n{\n\trtnl_lock();\n\tg();\n\trtnl_unlock();\n}\n",
		"h: locking: +rtnl_lock +rtnl_unlock\n"},
	{"two functions of one name",
		"#ifdef A\nvoid f(void) { g(); }\n#else\nvoid f(void) { h(); }\n#endif",
		"#ifdef A\nvoid f(void) { g(); }\n#else\nvoid f(void) { local_bh_disable(); h(); local_bh_enable(); }\n#endif",
		"f: locking: +local_bh_disable +local_bh_enable\n"},

	// What is no difference.
	{"a function is split",
		`int f(struct s *x) { mutex_lock(&x->l); x->n++; mutex_unlock(&x->l); return 0; }`,
		"static void add(struct s *x) { mutex_lock(&x->l); x->n++; mutex_unlock(&x->l); }\nint f(struct s *x) { add(x); return 0; }",
		""},
	{"functions are joined",
		"static void add(struct s *x) { mutex_lock(&x->l); x->n++; mutex_unlock(&x->l); }\nint f(struct s *x) { add(x); return 0; }",
		`int f(struct s *x) { mutex_lock(&x->l); x->n++; mutex_unlock(&x->l); return 0; }`,
		""},
	{"work within a critical section",
		`void f(struct s *x) { mutex_lock(&x->l); a(x); mutex_unlock(&x->l); }`,
		`void f(struct s *x) { mutex_lock(&x->l); a(x); if (x->n > 3) b(x); mutex_unlock(&x->l); }`,
		""},
	{"a further way to its end",
		`int f(struct s *x) { mutex_lock(&x->l); h(x); out: mutex_unlock(&x->l); return 0; }`,
		`int f(struct s *x) { mutex_lock(&x->l); if (g(x)) goto out; h(x); out: mutex_unlock(&x->l); return 0; }`,
		""},
	{"a check before it",
		`int f(struct s *x) { int n; mutex_lock(&x->l); n = x->n; mutex_unlock(&x->l); if (n) return 1; return 0; }`,
		`int f(struct s *x) { int n; if (!x) return 0; mutex_lock(&x->l); n = x->n; mutex_unlock(&x->l); if (n) return 1; return 0; }`,
		""},
	{"comments, texts and blanks",
		`void f(struct s *x) { g("a"); /* no mutex_lock(x) */ }`,
		"void f(struct s *x) {\n g(\"spin_lock(x)\"); // mutex_unlock(x);\n}",
		""},
	{"names that only look so",
		`void f(struct s *x) { g(x); }`,
		`void f(struct s *x) { void *p = klp_shadow_get(x, 1); nla_put(x, 2); skb_put(x, 3); atomic_set(&x->n, 1); disable_irq(3); atomic_read(&x->n); get_user(x, p); block(p); lockdep_assert_held(&x->l); pll_lock(x); __in6_dev_get(x); __in6_dev_put; dev_get_drvdata(x); regmap_get(x); nlmsg_put(x); of_property_get(x); refcount_read(&x->r); spin_is_locked(&x->l); snd_soc_component_get(x); }`,
		""},
	{"a variable of such a name",
		`void f(struct s *x) { x->spin_lock = 0; }`,
		`void f(struct s *x) { x->spin_lock = 1; x->mutex_lock++; }`,
		""},
	{"a new function that nobody calls",
		``,
		`void f(struct s *x) { mutex_lock(&x->l); x->n++; mutex_unlock(&x->l); }`,
		""},
	{"a renamed reference",
		`void f(struct s *x) { put_device(&x->dev); }`,
		`void f(struct s *x) { struct device *d = &x->dev; put_device(d); }`,
		""},
	{"what is never compiled",
		"#if 0\nvoid f(void) { g(); }\n#endif",
		"#if 0\nvoid f(void) { rtnl_lock(); }\n#endif",
		""},
}

func TestCompare(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := told(review.Compare([]review.Source{{Path: "x.c", Old: []byte(c.old), New: []byte(c.new)}}))
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
			same := told(review.Compare([]review.Source{{Path: "x.c", Old: []byte(c.new), New: []byte(c.new)}}))
			if same != "" {
				t.Errorf("a version differs from itself:\n%s", same)
			}
		})
	}
}

// Files of one patch see each other's global functions, not the static ones.
func TestSeveralFiles(t *testing.T) {
	src := func(path, old, new string) review.Source {
		return review.Source{Path: path, Old: []byte(old), New: []byte(new)}
	}
	const caller, calling = `void f(struct s *x) { g(x); }`, `void f(struct s *x) { add(x); g(x); }`
	const add = `void add(struct s *x) { down_write(&x->sem); x->n++; up_write(&x->sem); }`
	for _, c := range []struct{ name, helper, want string }{
		{"b.c", add, "f: locking: +down_write +up_write\n"},
		{"b.h", "static inline " + add, "f: locking: +down_write +up_write\n"},
		{"b.c", "static " + add, ""},
	} {
		got := told(review.Compare([]review.Source{src("a.c", caller, calling), src(c.name, "", c.helper)}))
		if got != c.want {
			t.Errorf("%s in %s: %q, want %q", c.helper, c.name, got, c.want)
		}
	}
}

// A function too large for the table of differences is still compared.
func TestHuge(t *testing.T) {
	var a, b strings.Builder
	for range 5000 {
		a.WriteString("x++; y(x, 1);")
		b.WriteString("x--; y(x, 2);")
	}
	old, new := "void f(void) { "+a.String()+"}", "void f(void) { rtnl_lock(); "+b.String()+"}"
	got := told(review.Compare([]review.Source{{Path: "x.c", Old: []byte(old), New: []byte(new)}}))
	if got != "f: locking: +rtnl_lock\n" {
		t.Error(got)
	}
}

func TestClassifySymbol(t *testing.T) {
	for name, want := range map[string]review.Kind{
		"_raw_spin_lock_irqsave": review.Locking, "_raw_read_unlock": review.Locking, "mutex_lock_interruptible": review.Locking,
		"down_read": review.Locking, "up": review.Locking, "__rcu_read_lock": review.RCU, "call_rcu": review.RCU, "synchronize_net": review.RCU,
		"refcount_warn_saturate": review.Counting, "kobject_put": review.Counting, "pm_runtime_get_if_active": review.Counting,
		"smp_store_release": review.Ordering, "test_and_set_bit": review.Ordering, "lock_sock_nested": review.Locking,
		"klp_shadow_get": "", "upper": "", "downgrade": "", "blk_get_request": "", "printk": "", "clock_gettime": "", "get_block": "",
		"kmem_cache_alloc": "", "__put_user_4": "", "seq_puts": "", "rcu_read_lock_held": "", "lockref": "", "input_event": "",
		"dev_get_by_name_rcu": review.RCU, "sock_hold": review.Counting, "fput": review.Counting, "of_node_put": review.Counting,
	} {
		if got, ok := review.ClassifySymbol(name); got != want || ok != (want != "") {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// FuzzCompare: no source makes it fail, and nothing differs from itself.
func FuzzCompare(f *testing.F) {
	for _, c := range cases {
		f.Add([]byte(c.old), []byte(c.new))
	}
	f.Fuzz(func(t *testing.T, old, new []byte) {
		review.Compare([]review.Source{{Path: "x.c", Old: old, New: new}})
		if p := review.Compare([]review.Source{{Path: "x.h", Old: new, New: new}}); len(p) > 0 {
			t.Errorf("it differs from itself: %v", p)
		}
	})
}
