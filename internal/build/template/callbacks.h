/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Callbacks that the patch's author wrote, one set for each file of an object.
 * The livepatch core knows one set for an object. If a pre-patch callback of
 * an object fails, the core calls nothing more for it, so that what those of
 * the other files did has to be taken back here.
 */
struct lupatch_callbacks {
	int (*pre_patch)(struct klp_object *obj);
	void (*post_patch)(struct klp_object *obj);
	void (*pre_unpatch)(struct klp_object *obj);
	void (*post_unpatch)(struct klp_object *obj);
};

/* Calls the post-unpatch callbacks of the first n sets, the last one first. */
static void lupatch_call_post_unpatch(const struct lupatch_callbacks *c, unsigned int n, struct klp_object *obj)
{
	while (n--)
		if (c[n].post_unpatch)
			c[n].post_unpatch(obj);
}

static int lupatch_call_pre_patch(const struct lupatch_callbacks *c, unsigned int n, struct klp_object *obj)
{
	unsigned int i;
	int ret;

	for (i = 0; i < n; i++) {
		ret = c[i].pre_patch ? c[i].pre_patch(obj) : 0;
		if (!ret)
			continue;
		pr_err("%s: %s: the patch's own pre-patch callback refuses: error %d\n",
		       THIS_MODULE->name, obj->name ? obj->name : "vmlinux", ret);
		lupatch_call_post_unpatch(c, i, obj);
		return ret < 0 ? ret : -EINVAL;
	}
	return 0;
}

static void lupatch_call_post_patch(const struct lupatch_callbacks *c, unsigned int n, struct klp_object *obj)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		if (c[i].post_patch)
			c[i].post_patch(obj);
}

static void lupatch_call_pre_unpatch(const struct lupatch_callbacks *c, unsigned int n, struct klp_object *obj)
{
	while (n--)
		if (c[n].pre_unpatch)
			c[n].pre_unpatch(obj);
}
