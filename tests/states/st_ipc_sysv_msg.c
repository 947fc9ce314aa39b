/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A SysV message queue with messages of several types. */
#include "state.h"

#include <sys/ipc.h>
#include <sys/msg.h>

struct msg {
	long type;
	char text[64];
};

int main(int argc, char **argv)
{
	struct msqid_ds ds;
	struct msg m;
	key_t key;
	int id;

	st_begin(argc, argv);
	key = (key_t)(0x53560000 + getpid());
	id = ST_SYS(msgget(key, IPC_CREAT | IPC_EXCL | 0600));
	for (int i = 1; i <= 5; i++) {
		m.type = i % 3 + 1;
		snprintf(m.text, sizeof(m.text), "message %d", i);
		ST_SYS(msgsnd(id, &m, strlen(m.text) + 1, 0));
	}
	st_wait();
	ST_EQ(msgget(key, 0), id);
	ST_OK(msgctl(id, IPC_STAT, &ds));
	ST_EQ(ds.msg_qnum, 5);
	ST_EQ(msgrcv(id, &m, sizeof(m.text), 3, IPC_NOWAIT), 10);
	ST_STR(m.text, "message 2");
	ST_OK(msgrcv(id, &m, sizeof(m.text), 0, IPC_NOWAIT));
	ST_STR(m.text, "message 1");
	ST_EQ(m.type, 2);
	ST_OK(msgrcv(id, &m, sizeof(m.text), -1, IPC_NOWAIT));
	ST_STR(m.text, "message 3");
	ST_EQ(msgctl(id, IPC_RMID, NULL), 0);
	return st_end();
}
