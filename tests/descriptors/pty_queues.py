# SPDX-License-Identifier: GPL-2.0-or-later
# A full pty, lines and half a line that were typed.
import os,sys,time,pty,tty,termios,fcntl,select
D=sys.argv[1]; os.chdir(D); fails=[]
def chk(n,a,b):
    if a!=b: fails.append('%s: got %r want %r'%(n,repr(a)[:200],repr(b)[:200]))
m,s=pty.openpty(); fcntl.fcntl(s,fcntl.F_SETFL,os.O_NONBLOCK|os.O_RDWR)
data=b''.join(b'line %06d\n'%i for i in range(3000)); n=0
try:
    while n<len(data): n+=os.write(s,data[n:n+100])
except BlockingIOError: pass
m2,s2=pty.openpty()   # canonical: two lines and a partial one
os.write(m2,b'one\ntwo\npart'); time.sleep(0.1)
echo=os.read(m2,100)
m3,s3=pty.openpty(); tty.setraw(s3); os.write(m3,b'raw\r\n\x03\x04'*3)
time.sleep(0.3)
open('ready','w').close()
while not os.path.exists('go'): time.sleep(0.02)
got=b''; want=data[:n].replace(b'\n',b'\r\n')
while select.select([m],[],[],0.3)[0]: got+=os.read(m,65536)
chk('outlen',len(got),len(want)); chk('out',got==want,True)
chk('l1',os.read(s2,100),b'one\n'); chk('l2',os.read(s2,100),b'two\n'); chk('nopart',select.select([s2],[],[],0.1)[0],[])
os.write(m2,b'ial\n'); chk('l3',os.read(s2,100),b'partial\n'); chk('echo',os.read(m2,100),b'ial\r\n')
chk('raw',os.read(s3,100),b'raw\r\n\x03\x04'*3)
chk('iflag',termios.tcgetattr(s2)[3]&termios.ECHO!=0,True)
open('result','w').write('PASS %d\n'%n if not fails else 'FAIL\n'+'\n'.join(fails)+'\n')
