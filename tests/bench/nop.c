/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nop.c - a static program that ends at once: what starting and reaping a process costs. */
int main(void)
{
	return 0;
}
