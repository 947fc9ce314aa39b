# SPDX-License-Identifier: GPL-2.0-or-later
# Unix sockets between two processes: names, credentials, queues, descriptors in flight, closed ends.
import os,socket,struct,sys,time,array,errno,fcntl,select
D=sys.argv[1]; os.chdir(D)
def wait():
    open('ready','w').close()
    while not os.path.exists('go'): time.sleep(0.02)
fails=[]
def chk(n,a,b):
    if a!=b: fails.append('%s: got %r want %r'%(n,a,b))
def cred(s): return struct.unpack('3i',s.getsockopt(socket.SOL_SOCKET,17,12))
os.mkdir('sub')
L=socket.socket(socket.AF_UNIX); L.bind('sub/rel.sock'); os.chmod('sub/rel.sock',0o640); L.listen(3)
A=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET); A.bind('\0abs-%d'%os.getpid()); A.listen(1)
G=socket.socket(socket.AF_UNIX); G.bind('gone.sock'); G.listen(1)
D1=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); D1.bind('d1'); D1.setsockopt(1,16,1)
r,w=os.pipe()
me=os.getpid()
pid=os.fork()
if pid==0:
    os.close(w)
    c=socket.socket(socket.AF_UNIX); c.connect('sub/rel.sock'); c.send(b'hello'); c.settimeout(7.5)
    q=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET); q.connect('\0abs-%d'%me); q.send(b'one'); q.send(b'two two'); q.send(b'')
    g=socket.socket(socket.AF_UNIX); g.connect('gone.sock')
    d2=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); d2.bind('d2'); d2.connect('d1'); d2.send(b'dg1'); d2.send(b'dg2')
    d3=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); d3.bind('d3'); d3.sendto(b'dg3','d1'); d3.close(); os.unlink('d3')
    pc=[cred(c),cred(q),cred(g)]
    os.read(r,1)
    f=[]
    if [cred(c),cred(q),cred(g)]!=pc: f.append('child peercred %r was %r'%([cred(c),cred(q),cred(g)],pc))
    if c.getpeername()!='sub/rel.sock': f.append('peername %r'%c.getpeername())
    if g.getpeername()!='gone.sock': f.append('peername %r'%g.getpeername())
    if c.gettimeout()!=7.5: f.append('to')
    if c.recv(10)!=b'reply': f.append('reply')
    c.send(b'more'); g.send(b'gmore'); d2.send(b'dg4')
    if c.recv(10)!=b'': f.append('eof')
    open('childfail','w').write('\n'.join(f)); os._exit(0)
os.close(r)
s,_=L.accept(); q,_=A.accept(); g,_=G.accept(); G.close(); os.unlink('gone.sock')
time.sleep(0.3)
pc=[cred(s),cred(q),cred(g)]
chk('pc0',[x[0] for x in pc],[pid]*3)
# scm rights in the middle of a stream
a,b=socket.socketpair()
b.send(b'before'); tf=os.open('tf',os.O_RDWR|os.O_CREAT); os.write(tf,b'0123456789'); os.lseek(tf,4,0)
rp,wp=os.pipe(); os.write(wp,b'inpipe')
b.sendmsg([b'with'],[(socket.SOL_SOCKET,socket.SCM_RIGHTS,array.array('i',[tf,rp]))]); b.send(b'after'); os.close(tf); os.close(rp)
# half close
h1,h2=socket.socketpair(); h2.send(b'last'); h2.shutdown(socket.SHUT_WR); h1.send(b'back')
# peer closed with data
o1,o2=socket.socketpair(); o2.send(b'orphan'); o2.close()
# peer closed, unread data -> reset
x1,x2=socket.socketpair(); x1.send(b'never read'); x2.close()
sb=s.getsockopt(1,7); s.setsockopt(1,7,50000); sb=s.getsockopt(1,7)
# full socket
f1,f2=socket.socketpair(); f1.setblocking(False); full=0
try:
    while True: full+=f1.send(b'z'*1000)
except BlockingIOError: pass
# socket listing inode mode
ino=None
wait()
chk('peercred',[cred(s),cred(q),cred(g)],pc)
chk('sockname',s.getsockname(),'sub/rel.sock'); chk('mode',os.stat('sub/rel.sock').st_mode&0o777,0o640)
chk('gname',g.getsockname(),'gone.sock'); chk('gexists',os.path.exists('gone.sock'),False)
chk('hello',s.recv(100),b'hello'); chk('q1',q.recv(100),b'one'); chk('q2',q.recv(100),b'two two'); chk('q3',q.recv(100),b'')
def rd(d):
    m=d.recvmsg(100,1000); c=[struct.unpack('3i',x[2]) for x in m[1] if x[1]==2]
    return m[0],m[3],(c[0][0] if c else None)
chk('dg1',rd(D1),(b'dg1','d2',pid)); chk('dg2',rd(D1),(b'dg2','d2',pid)); chk('dg3',rd(D1),(b'dg3','d3',pid))
m=a.recvmsg(3,1000); chk('before',(m[0],m[1]),(b'bef',[]))
m=a.recvmsg(100,1000); fds=array.array('i'); fds.frombytes(m[1][0][2]) if m[1] else None
chk('with',m[0][:7],b'orewith'); chk('nfds',len(fds),2)
chk('tf',os.read(fds[0],3),b'456'); chk('rp',os.read(fds[1],10),b'inpipe')
rest=m[0][7:]
if not rest: rest=a.recv(100)
chk('after',rest,b'after')
chk('half',h1.recv(10),b'last'); chk('halfeof',h1.recv(10),b''); chk('halfback',h2.recv(10),b'back')
try: h2.send(b'x'); chk('epipe',0,1)
except BrokenPipeError: pass
chk('orphan',o1.recv(10),b'orphan'); chk('orphaneof',o1.recv(10),b'')
try: x1.recv(10); chk('reset',0,1)
except ConnectionResetError: pass
chk('sndbuf',s.getsockopt(1,7),sb)
got=0
f2.setblocking(False)
try: f1.send(b'q'); chk('full',0,1)
except BlockingIOError: pass
try:
    while True: got+=len(f2.recv(65536))
except BlockingIOError: pass
chk('full',got,full)
s.send(b'reply'); os.write(w,b'x')
time.sleep(0.2)
chk('more',s.recv(10),b'more'); chk('gmore',g.recv(10),b'gmore'); chk('dg4',rd(D1),(b'dg4','d2',pid))
s.close()
n=socket.socket(socket.AF_UNIX); n.connect('sub/rel.sock'); k,_=L.accept(); k.send(b'new'); chk('new',n.recv(3),b'new'); chk('newcred',cred(k)[0],me)
os.waitpid(pid,0)
cf=open('childfail').read()
if cf: fails.append(cf)
open('result','w').write('PASS\n' if not fails else 'FAIL\n'+'\n'.join(fails)+'\n')
